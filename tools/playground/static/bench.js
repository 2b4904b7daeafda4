// Free play: use the shop, and break it.
import { $, make, short, text } from "./dom.js";
import { chosen, onChoice } from "./orders.js";
import { about, ask, page, tell } from "./server.js";

const AT_ONCE = 12;
const COMING = 6;

let pacing = false;

const number = (form, name) => Number(form.elements[name].value);

function onOrder(action, body = {}) {
  if (chosen() === null) tell("Create an order first.");
  else ask(action, { order: chosen(), ...body });
}

function onSubmit(id, act) {
  $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    act(event.target);
  });
}

export function beginBench() {
  $("step-point").append(...about.steps.map((step) => make("option", { value: step.point }, step.label)));
  $("step-action").append(...Object.entries(about.step_actions).map(([value, label]) => make("option", { value }, label)));
  onSubmit("create", (form) => ask("create", { quantity: number(form, "quantity"), value: form.elements.value.value }));
  onSubmit("change", (form) => onOrder("update", { quantity: number(form, "quantity") }));
  onSubmit("step", (form) => breakAt(form.elements.step.value, form.elements.action.value));
  for (const button of document.querySelectorAll("[data-step]")) {
    button.addEventListener("click", () => breakAt(button.dataset.step, button.dataset.action));
  }
  $("delete").addEventListener("click", () => onOrder("delete"));
  $("crowd-once").addEventListener("click", () => onOrder("crowd/once", { clients: AT_ONCE }));
  $("crowd").addEventListener("click", () => {
    if ($("crowd").dataset.here === "true") ask("crowd/leave");
    else onOrder("crowd/come", { clients: COMING, page });
  });
  $("wipe").addEventListener("click", () => ask("wipe"));
  $("mend").addEventListener("click", () => ask("mend"));
  $("slow").addEventListener("change", async (event) => {
    pacing = true;
    await ask("pace", { slow: event.target.checked });
    pacing = false;
  });
  onChoice((id) => {
    for (const name of document.querySelectorAll(".chosen")) text(name, id === null ? "an order" : `order ${short(id)}`);
  });
}

const breakAt = (step, action) => onOrder("step", { step, action, quantity: 1 + Math.floor(Math.random() * 20) });

export function showBench(snapshot) {
  const { crowd } = snapshot;
  $("crowd").dataset.here = String(crowd.here);
  text($("crowd"), crowd.here ? "Send them away" : `Keep ${COMING} coming`);
  text($("crowd-state"), crowd.here ? `${crowd.clients} clients, ${crowd.sent} requests so far` : "");
  if (!pacing) $("slow").checked = snapshot.pace === "slow";
}
