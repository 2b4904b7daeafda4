// Puts the pieces together: tabs, theme, and one picture after the other.
import { $ } from "./dom.js";
import { beginBench, showBench } from "./bench.js";
import { synchronize } from "./clock.js";
import { showOffice } from "./office.js";
import { showOrders } from "./orders.js";
import { showAnswers, showParts } from "./parts.js";
import { watch } from "./server.js";
import { showTimeline } from "./timeline.js";
import { beginTour, showTour } from "./tour.js";

const tabs = [...document.querySelectorAll('[role="tab"]')];

function select(tab) {
  for (const each of tabs) {
    const here = each === tab;
    each.setAttribute("aria-selected", String(here));
    each.tabIndex = here ? 0 : -1;
    $(each.getAttribute("aria-controls")).hidden = !here;
  }
  $("live").hidden = tab.id === "tab-lock";
}

for (const [place, tab] of tabs.entries()) {
  tab.addEventListener("click", () => select(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    const next = tabs[(place + step + tabs.length) % tabs.length];
    select(next);
    next.focus();
  });
}

function theme(chosen) {
  document.documentElement.dataset.theme = chosen;
  localStorage.setItem("theme", chosen);
}
if (localStorage.getItem("theme")) theme(localStorage.getItem("theme"));
$("theme").addEventListener("click", () => {
  theme(getComputedStyle(document.documentElement).colorScheme === "dark" ? "light" : "dark");
});

beginTour();
beginBench();
watch((snapshot) => {
  synchronize(snapshot.at);
  showParts(snapshot);
  showOrders(snapshot);
  showTimeline(snapshot);
  showAnswers(snapshot);
  showTour(snapshot);
  showBench(snapshot);
  showOffice(snapshot);
  document.body.dataset.ready = "true";
});
