// The lock without the shop: four locks, three people, and fences that only grow.
import { $, attribute, list, make, part, text } from "./dom.js";
import { makeLock, showLock } from "./locks.js";
import { about, ask, tell } from "./server.js";

const ASKS = [["printer", "Printer"], ["scanner", "Scanner"], ["both", "Both"], ["read", "Read"], ["write", "Write"], ["phone", "Phone"]];

function makeThing({ what, name, label, kind }) {
  return make("li", {},
    make("p", { class: "who" }, make("strong", {}, label), make("code", { class: "muted" }, name)),
    make("p", { class: "muted" }, kind),
    makeLock(),
    make("p", {}, make("button", {
      class: "small", type: "button", "data-part": "break", "aria-label": `Break the lock of the ${what}`,
      onclick: () => {
        tell(`Running: fencelock break ${name}`);
        ask("lock/break", { what });
      },
    }, "Break it")));
}

function makePerson(person) {
  const want = ([what, label]) => make("button", {
    class: "small", type: "button", "data-part": `want-${what}`, "aria-label": `${person.name} takes ${about.choices[what]}, or waits`,
    onclick: () => ask("lock/want", { person: person.name, what, wait: true }),
  }, label);
  return make("li", {},
    make("p", { class: "who" }, make("strong", {}, person.name), make("span", { class: "tag", "data-part": "state" })),
    make("p", { class: "muted", "data-part": "last" }),
    make("p", { class: "row" }, ...ASKS.map(want),
      make("button", {
        class: "small", type: "button", "data-part": "try", "aria-label": `${person.name} tries the printer once, without waiting`,
        onclick: () => ask("lock/want", { person: person.name, what: "printer", wait: false }),
      }, "Try printer"),
      make("button", {
        class: "small", type: "button", "data-part": "go", "aria-label": `${person.name} lets go`,
        onclick: () => ask("lock/go", { person: person.name }),
      }, "Let go")));
}

function showPerson(element, person) {
  attribute(element, "data-state", person.state);
  const state = part(element, "state");
  text(state, person.state === "idle" ? "idle" : `${person.state === "holding" ? "holds" : "waits for"} ${person.what}`);
  state.className = `tag ${{ holding: "ok", waiting: "warn", idle: "" }[person.state]}`;
  text(part(element, "last"), person.last === "" ? "has not asked for anything yet." : `${person.name} ${person.last}`);
  for (const button of element.querySelectorAll("button")) {
    const busy = person.state !== "idle";
    button.disabled = button.dataset.part === "go" ? !busy : busy;
  }
}

function growth(grants, place) {
  const earlier = grants[place + 1];
  return earlier === undefined ? "the first" : `+${(BigInt(grants[place].fence) - BigInt(earlier.fence)).toLocaleString("en")}`;
}

export function showOffice(snapshot) {
  const { people, grants } = snapshot.people;
  list($("office"), about.things, (thing) => thing.what, makeThing, (element, { name }) => {
    const lock = snapshot.locks.held.find((each) => each.name === name);
    showLock(element.querySelector(".lock"), lock, snapshot);
    part(element, "break").disabled = lock === undefined || lock.holders.length === 0;
  });
  list($("people"), people, (person) => person.name, makePerson, showPerson);
  list($("fences"), grants.map((grant, place) => ({ ...grant, growth: growth(grants, place) })), (grant) => grant.fence,
    () => make("li", {}, make("code", { "data-part": "fence" }), make("span", { class: "muted", "data-part": "growth" }),
      make("span", { class: "muted", "data-part": "who" })),
    (element, grant) => {
      text(part(element, "fence"), grant.fence);
      text(part(element, "growth"), grant.growth);
      text(part(element, "who"), `${grant.who}, ${grant.what}`);
    });
}
