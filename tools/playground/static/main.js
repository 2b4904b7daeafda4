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
    const to = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = tabs[(to + tabs.length) % tabs.length];
    select(next);
    next.focus();
  });
}

// A browser that keeps nothing for us throws: the choice then lasts as long as the page.
function kept() {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null;
  }
}

function theme(chosen) {
  document.documentElement.dataset.theme = chosen;
  try {
    localStorage.setItem("theme", chosen);
  } catch { /* see above */ }
}
if (kept()) theme(kept());
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
