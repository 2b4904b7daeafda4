// The parts of the shop, what clients were told, and the counters.
import { $, attribute, list, make, part, text } from "./dom.js";
import { ask } from "./server.js";

const WORDS = { kill: "Kill", pause: "Pause", stop: "Stop", cut: "Cut" };
const STATES = { up: "up", paused: "paused", down: "down", starting: "starting" };
const COUNTS = [
  ["acknowledged", "done"], ["refused", "refused"], ["unanswered", "no answer"],
  ["healed", "healed"], ["replayed", "replayed"],
];
const ANSWERS = 8;

function makePart(one) {
  const acts = one.actions.map((action) => make("button", {
    class: "small", type: "button", "data-act": action, "aria-label": `${WORDS[action]} ${one.label}`,
    onclick: () => ask("break", { part: one.name, action }),
  }, WORDS[action]));
  const heal = make("button", {
    class: "small", type: "button", "data-act": "heal", "aria-label": `Bring back ${one.label}`,
    onclick: () => ask("heal", { part: one.name }),
  }, "Bring back");
  return make("li", { class: "part", "data-name": one.name },
    make("div", {}, make("p", {}, one.label), make("p", { class: "state", "data-part": "state" })),
    make("div", { class: "acts" }, ...acts, heal));
}

export function showParts(snapshot) {
  list($("parts"), snapshot.parts, (one) => one.name, makePart, (element, one) => {
    attribute(element, "data-state", one.state);
    const broken = ["paused", "down"].includes(one.state);
    const back = one.heals_in === null || !broken ? "" : `, back by itself in ${one.heals_in} s`;
    text(part(element, "state"), STATES[one.state] + back);
    for (const button of element.querySelectorAll("button")) {
      const heals = button.dataset.act === "heal";
      button.disabled = heals ? !broken : one.state !== "up";
      button.hidden = heals !== broken;
    }
  });
}

function kind(answer) {
  if (answer.status === null) return ["no answer", "bad"];
  if (answer.status === 202) return ["202 open", "warn"];
  return answer.status < 300 ? [`${answer.status} done`, "ok"] : [`${answer.status}`, "warn"];
}

export function showAnswers(snapshot) {
  list($("counts"), COUNTS, ([name]) => name, ([, label]) => make("div", {}, make("dt", {}, label), make("dd")),
    (element, [name]) => {
      text(element.lastElementChild, String(snapshot.counts[name]));
      attribute(element, "data-count", name);
    });
  list($("answers"), snapshot.answers.slice(0, ANSWERS), (answer) => answer.number,
    () => make("li", {}, make("span", { "data-part": "tag" }), make("span", { "data-part": "what" }),
      make("span", { class: "muted", "data-part": "time" })),
    (element, answer) => {
      const [words, style] = kind(answer);
      part(element, "tag").className = `tag ${style}`;
      text(part(element, "tag"), words);
      text(part(element, "what"), `${answer.who}: ${answer.what}${answer.repeated ? ", again" : ""}`);
      attribute(part(element, "what"), "title", answer.detail);
      text(part(element, "time"), `${(answer.milliseconds / 1000).toFixed(1)} s`);
    });
}
