// Operations on a line of time, from intent over decision to completion.
import { $, attribute, list, make, part, short, text, toggle } from "./dom.js";
import { now, onTick } from "./clock.js";
import { about } from "./server.js";

const WINDOW_MS = 45000;
const SHOWN = 8;
const shown = new Map();

const makeTrace = () => about.traces_url === "" ? make("code") : make("a", { target: "_blank", rel: "noopener" });

function showTrace(element, trace) {
  element.hidden = trace === null;
  if (trace === null) return;
  const code = element.lastElementChild;
  text(code, trace);
  if (about.traces_url !== "") attribute(code, "href", about.traces_url + trace);
}

function makeOperation() {
  return make("li", { class: "op" },
    make("p", { class: "op-head" },
      make("strong", { "data-part": "what" }),
      make("span", { class: "muted", "data-part": "times" }),
      make("span", { class: "muted", "data-part": "trace" }, "trace ", makeTrace())),
    make("div", { class: "track", "aria-hidden": "true" },
      make("i", { class: "span", "data-part": "span" }),
      ...["intent", "decision", "completion"].map((mark) => make("i", { class: `mark ${mark}`, "data-part": mark }))));
}

const seconds = (from, to) => `${((to - from) / 1000).toFixed(2)} s`;

function times(op) {
  if (op.completion !== null) {
    const decided = op.decision === null ? "" : `decided after ${seconds(op.intent, op.decision)}, `;
    return `${decided}${op.state} after ${seconds(op.intent, op.completion)}${op.recovered ? ", by recovery" : ""}`;
  }
  return op.decision === null ? "written down, not decided" : `decided after ${seconds(op.intent, op.decision)}, not completed`;
}

export function showTimeline(snapshot) {
  const operations = snapshot.operations.slice(0, SHOWN);
  shown.clear();
  list($("timeline"), operations, (op) => op.id, makeOperation, (element, op) => {
    text(part(element, "what"), `${op.kind} ${short(op.order_id)} → v${op.version}`);
    text(part(element, "times"), times(op));
    showTrace(part(element, "trace"), op.trace_id);
    toggle(element, "pending", op.completion === null);
    shown.set(element, op);
  });
  move();
}

function move() {
  const right = now();
  const place = (moment) => Math.min(100, Math.max(0, 100 - 100 * (right - moment) / WINDOW_MS));
  for (const [element, op] of shown) {
    const start = place(op.intent);
    const span = part(element, "span");
    span.style.left = `${start}%`;
    span.style.width = `${place(op.completion ?? right) - start}%`;
    for (const mark of ["intent", "decision", "completion"]) {
      const dot = part(element, mark);
      dot.hidden = op[mark] === null;
      if (op[mark] !== null) dot.style.left = `${place(op[mark])}%`;
    }
  }
}
onTick(move);
