// The guided tour: six scenes, the shop beside a lock alone.
import { $, attribute, list, make, text, toggle } from "./dom.js";
import { makeLock, showLock } from "./locks.js";
import { about, ask } from "./server.js";

let current = 0;
let latest = null;
let spoken = "";

const scene = () => about.scenes[current];
const runOf = (snapshot) => snapshot.tour.runs[scene().name] ?? null;
const place = (name) => about.scenes.findIndex((each) => each.name === name);

function go(number) {
  current = number;
  show();
}

export function beginTour() {
  $("scenes").append(...about.scenes.map((each, number) => make("li", {},
    make("button", { type: "button", "data-scene": each.name, onclick: () => go(number) },
      make("span", { class: "number", "aria-hidden": "true" }, String(number + 1)),
      make("span", { class: "name" }, each.title)))));
  for (const [number, item] of [...$("scenes").children].entries()) {
    item.firstElementChild.setAttribute("aria-label", `Scene ${number + 1}: ${about.scenes[number].title}`);
  }
  $("scene-play").addEventListener("click", () => ask("play", { scene: scene().name }));
  $("scene-next").addEventListener("click", () => {
    go((current + 1) % about.scenes.length);
    $("scene-play").focus();
  });
  show();
}

function pair(element, { order, invoice, differs, moving }) {
  const [o, sign, i] = element.children;
  text(o, `order ${order ?? "—"}`);
  text(sign, differs ? "≠" : "=");
  text(i, `invoice ${invoice ?? "—"}`);
  toggle(element, "differs", differs && !moving);
  toggle(element, "moving", differs && moving);
}

const makePair = () => make("li", { class: "pair" }, make("span", { class: "o" }), make("span", { class: "sign" }), make("span", { class: "i" }));

function verdict(element, good, words) {
  element.hidden = words === null;
  if (words === null) return;
  text(element, `${good ? "✓" : "✗"} ${words}`);
  toggle(element, "good", good);
  toggle(element, "bad", !good);
}

function showScene(run, result, playing) {
  const lines = (side) => (run?.lines ?? []).filter((line) => line.side === side || line.side === "both");
  for (const side of ["shop", "control"]) {
    list($(`${side}-lines`), lines(side).map((line, place) => ({ ...line, place })), (line) => `${line.place} ${line.text}`,
      (line) => make("li", {}, make("span", {}, line.text)), () => undefined);
  }
  const done = run !== null && playing !== scene().name && run.failure === "" && result !== undefined;
  verdict($("shop-verdict"), result?.shop_equal, done ? `${result.shop_equal ? "Kept" : "Broken"}: ${result.shop}` : null);
  verdict($("control-verdict"), result?.control_equal, done ? `${result.control_equal ? "Kept" : "Lost"}: ${result.control}` : null);
  $("scene-end").hidden = !done;
  text($("scene-next"), current === about.scenes.length - 1 ? "Back to the first scene" : "Next scene");
  text($("scene-state"), words(run, playing));
  const newest = run?.lines.at(-1)?.text ?? "";
  if (playing === scene().name && newest !== spoken) text($("spoken"), spoken = newest);
}

function words(run, playing) {
  if (playing === null) return run?.failure ?? "";
  return playing === scene().name ? "Watch both sides, and the panels below." : `Another scene is being played: ${about.scenes[place(playing)].title}.`;
}

function showPairs(run, snapshot) {
  const ours = snapshot.shop.toured.filter((order) => run?.order_ids.includes(order.id));
  const theirs = snapshot.control.pairs.filter((each) => run?.control_ids.includes(each.id));
  const playing = snapshot.tour.playing === scene().name;
  list($("shop-pairs"), ours, (order) => order.id, makePair, pair);
  list($("control-pairs"), theirs, (each) => each.id, makePair, (element, each) => pair(element, { ...each, moving: playing }));
  showLocks("shop", ours, "order", snapshot);
  showLocks("control", theirs, "control-order", snapshot);
}

// The locks of a scene's orders, where its sentences are read.
function showLocks(side, pairs, kind, snapshot) {
  const names = new Set(pairs.map((each) => `${kind}:{${each.id}}`));
  list($(`${side}-locks`), snapshot.locks.held.filter((lock) => names.has(lock.name)), (lock) => lock.name,
    () => make("li", {}, makeLock()), (element, lock) => showLock(element.firstElementChild, lock, snapshot));
}

function showTally(snapshot) {
  const results = Object.values(snapshot.tour.results);
  const { control } = snapshot;
  const kept = results.filter((result) => result.shop_equal).length;
  const lost = results.filter((result) => !result.control_equal).length;
  const twice = control.made_twice === 0 ? "" : `, ${control.made_twice} made twice`;
  $("tally").hidden = results.length === 0;
  list($("tally"), results.length === 0 ? [] : [
    { strong: true, words: `${results.length} of ${about.scenes.length} scenes played. ` },
    { words: `The shop kept its promise in ${kept}. The lock alone failed in ${lost}: ` },
    { strong: true, words: `${control.lost} of its ${control.orders} orders ${control.lost === 1 ? "differs" : "differ"}${twice}.` },
  ], (piece) => piece.words, (piece) => make(piece.strong ? "strong" : "span", {}, piece.words), () => undefined);
  attribute($("tally"), "data-lost", String(control.lost));
}

function show() {
  text($("scene-title"), scene().title);
  text($("scene-before"), scene().before);
  text($("scene-after"), scene().after);
  for (const [number, item] of [...$("scenes").children].entries()) {
    attribute(item.firstElementChild, "aria-current", number === current ? "step" : null);
    toggle(item.firstElementChild, "played", about.scenes[number].name in (latest?.tour.results ?? {}));
  }
  if (latest === null) return;
  const run = runOf(latest);
  const { playing } = latest.tour;
  const busy = playing !== null;
  const result = latest.tour.results[scene().name];
  $("scene-play").disabled = busy;
  text($("scene-play"), busy ? "Playing …" : run === null ? "Play this scene" : "Play it again");
  attribute($("view-tour"), "data-playing", String(playing === scene().name));
  showScene(run, result, playing);
  showPairs(run, latest);
  showTally(latest);
}

export function showTour(snapshot) {
  const { playing, scene: last } = snapshot.tour;
  if (latest === null && last !== null) current = place(playing ?? last); // the page was opened anew
  latest = snapshot;
  show();
}
