// Orders beside their invoices, version by version, each pair with its lock.
import { $, attribute, list, make, part, short, text, toggle } from "./dom.js";
import { makeLock, showLock } from "./locks.js";

let picked = null;
let byHand = false;
const listeners = new Set();

export const chosen = () => picked;
export const onChoice = (listen) => listeners.add(listen);

function choose(id, hand = false) {
  picked = id;
  byHand = hand;
  for (const listen of listeners) listen(id);
}

function makeOrder(order) {
  const radio = make("input", { type: "radio", name: "order", value: order.id, onchange: () => choose(order.id, true) });
  const book = (side, kind) => make("div", { class: `book ${side}` },
    make("p", { class: "kind", "data-part": `${side}-kind` }, kind),
    make("p", { class: "sum", "data-part": `${side}-sum` }),
    make("p", { class: "muted", "data-part": `${side}-text` }));
  const versions = (side, name) => [make("span", { class: "muted" }, name),
    make("ul", { "data-part": `${side}-versions` })];
  return make("li", { class: "order", "data-order": order.id },
    make("div", { class: "order-head" },
      make("label", {}, radio, `Order ${short(order.id)}`),
      make("span", { class: "tag", "data-part": "tag" })),
    make("div", { class: "sides" }, book("o", "Order"),
      make("p", { class: "between", "data-part": "sign" }, make("span"), make("small")), book("i", "Invoice")),
    make("div", { class: "versions" }, ...versions("o", "order"), ...versions("i", "invoice")),
    make("div", { "data-part": "lock" }, makeLock()));
}

function showSide(element, side, row, what) {
  attribute(element, `data-${side}`, row === null ? "none" : `${row.version} ${row.total} ${row.status}`);
  text(part(element, `${side}-sum`), row === null ? "—" : row.total);
  text(part(element, `${side}-text`), row === null ? "not there yet" : `${what}version ${row.version}, ${row.status}`);
}

function showVersions(element, side, order) {
  const state = side === "o" ? "order" : "invoice";
  list(part(element, `${side}-versions`), order.versions, (each) => each.version,
    () => make("li"), (child, each) => {
      const word = { done: each.total ?? "applied", pending: "pending", missing: "missing" }[each[state]];
      child.className = `v ${side} ${each[state]}${each.differs ? " differs" : ""}`;
      text(child, `v${each.version} ${word}`);
    });
}

function tag(order) {
  if (order.differs && order.pending !== null) return ["a change is on its way", "warn"];
  if (order.differs) return ["differs", "bad"];
  if (order.pending !== null) return ["a change is on its way", "warn"];
  return ["equal", "ok"];
}

function showOrder(element, order, snapshot) {
  const head = order.order === null ? "" : `${order.order.quantity} × ${order.order.value}, `;
  showSide(element, "o", order.order, head);
  showSide(element, "i", order.invoice, "");
  showVersions(element, "o", order);
  showVersions(element, "i", order);
  const [words, kind] = tag(order);
  const label = part(element, "tag");
  text(label, words);
  label.className = `tag ${kind}`;
  const [sign, under] = part(element, "sign").children;
  text(sign, order.differs ? "≠" : "=");
  text(under, order.differs ? "differs" : "equal");
  toggle(element, "differs", order.differs);
  toggle(element, "picked", order.id === picked);
  const lock = snapshot.locks.held.find((each) => each.name === `order:{${order.id}}`);
  toggle(element, "calm", order.id !== picked && !order.differs && order.pending === null && lock === undefined);
  element.querySelector("input").checked = order.id === picked;
  showLock(part(element, "lock").firstElementChild, lock, snapshot);
}

export function showOrders(snapshot) {
  const { shop } = snapshot;
  const ids = shop.orders.map((order) => order.id);
  if (shop.readable && (!ids.includes(picked) || (!byHand && ids[0] !== picked))) choose(ids[0] ?? null);
  const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
  const moving = shop.orders.filter((order) => order.pending !== null).length;
  const differing = shop.orders.filter((order) => order.differs && order.pending === null).length;
  const compared = `${differing === 0 ? "none differs" : differing === 1 ? "1 differs" : `${differing} differ`} now${moving === 0 ? "" : `, ${count(moving, "change")} on the way`}`;
  text($("totals"), shop.readable
    ? ids.length === 0
      ? "None yet. Play a scene, or create one in free play."
      : `${count(shop.order_count, "order")} and ${count(shop.invoice_count, "invoice")} since the page was started, the newest below; ${compared}.`
    : "The databases do not answer.");
  attribute($("totals"), "data-counts", `${shop.order_count} ${shop.invoice_count}`);
  list($("orders"), shop.orders, (order) => order.id, makeOrder,
    (element, order) => showOrder(element, order, snapshot));
}
