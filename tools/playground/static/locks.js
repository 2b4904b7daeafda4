// A lock: holder, fence, the time it has left, and the line of waiters.
import { attribute, list, make, part, text, toggle } from "./dom.js";
import { now, onTick } from "./clock.js";

const bars = new Map();

export function makeLock() {
  return make("div", { class: "lock" },
    make("p", { class: "lock-line" },
      make("span", { "data-part": "holder" }),
      make("span", { class: "muted", "data-part": "fence" }),
      make("span", { class: "muted", "data-part": "left" })),
    make("div", { class: "bar", "data-part": "bar", "aria-hidden": "true" }, make("i")),
    make("p", { class: "lock-line", "data-part": "line" },
      make("span", { class: "muted" }, "in line"),
      make("span", { class: "waiters", "data-part": "waiters" })));
}

export function showLock(element, lock, at) {
  const held = lock !== undefined && lock.holder !== null;
  const waiters = lock === undefined ? [] : lock.waiters;
  text(part(element, "holder"), held ? `Held by ${lock.holder}` : "The lock is free");
  text(part(element, "fence"), held ? `fence ${lock.fence}` : "");
  part(element, "bar").hidden = !held;
  part(element, "line").hidden = waiters.length === 0;
  if (held) bars.set(element, { ends: at + lock.remaining_ms, lease: lock.lease_ms });
  else {
    bars.delete(element);
    text(part(element, "left"), "");
  }
  list(part(element, "waiters"), waiters.map((who, place) => ({ who, place })), (one) => one.place,
    () => make("span", { class: "tag" }), (child, one) => text(child, `${one.place + 1}. ${one.who}`));
}

onTick(() => {
  for (const [element, { ends, lease }] of bars) {
    if (!element.isConnected) {
      bars.delete(element);
      continue;
    }
    const left = Math.max(0, ends - now());
    const bar = part(element, "bar");
    bar.firstElementChild.style.width = `${Math.min(100, 100 * left / lease)}%`;
    toggle(bar, "low", left < lease / 3);
    text(part(element, "left"), `${(left / 1000).toFixed(1)} s left`);
    attribute(element, "data-left", String(Math.round(left / 100)));
  }
});
