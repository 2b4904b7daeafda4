// A lock: its holders, each with a fence and the time that is left, and the line of waiters.
import { attribute, list, make, part, text, toggle } from "./dom.js";
import { now, onTick } from "./clock.js";

const bars = new Map();

export function makeLock() {
  return make("div", { class: "lock" },
    make("p", { class: "lock-line", "data-part": "free" }),
    make("ul", { class: "held", "data-part": "holders" }),
    make("p", { class: "lock-line", "data-part": "line" },
      make("span", { class: "muted" }, "in line"),
      make("span", { class: "waiters", "data-part": "waiters" })));
}

const makeHolder = () => make("li", { class: "holder" },
  make("p", { class: "lock-line" },
    make("span", { "data-part": "who" }),
    make("span", { class: "muted", "data-part": "fence" }),
    make("span", { class: "muted", "data-part": "left" })),
  make("div", { class: "bar", "data-part": "bar", "aria-hidden": "true" }, make("i")));

const HELD = { exclusive: "Held by", shared: "Shared by" };

export function showLock(element, lock, { locks, at }) {
  const holders = lock?.holders ?? [];
  const waiters = lock?.waiters ?? [];
  const free = part(element, "free");
  free.hidden = holders.length > 0;
  text(free, locks.readable ? "The lock is free" : "Redis does not answer");
  part(element, "line").hidden = waiters.length === 0;
  list(part(element, "holders"), holders, (holder) => holder.fence, makeHolder, (item, holder) => {
    text(part(item, "who"), `${HELD[lock.kind] ?? `One of ${lock.kind}:`} ${holder.who}`);
    text(part(item, "fence"), `fence ${holder.fence}`);
    bars.set(item, { ends: at + holder.remaining_ms, lease: lock.lease_ms });
  });
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
