// The stream of pictures, and what is asked for.
import { $, text, toggle } from "./dom.js";

export const page = crypto.randomUUID();
export const about = await load();

const SILENCE_MS = 12000; // the server says something every 5 s
const RETRY_MS = 2000;

let hiding = 0;

// The server may be on its way up or down when the page is loaded.
async function load() {
  for (;;) {
    try {
      const answer = await fetch("/about");
      if (answer.ok) return await answer.json();
    } catch { /* nobody listens yet */ }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

export function tell(message) {
  const toast = $("toast");
  text(toast, message);
  toggle(toast, "shown", true);
  clearTimeout(hiding);
  hiding = setTimeout(() => toggle(toast, "shown", false), 4000);
}

export async function ask(action, body = {}) {
  try {
    const answer = await fetch(`/do/${action}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    const { detail } = await answer.json().catch(() => ({ detail: `The playground answered ${answer.status}.` }));
    tell(detail);
    return answer.ok;
  } catch {
    tell("The playground does not answer. Has it been stopped?");
    return false;
  }
}

// Whether something goes on that would end without a page that watches.
const isBusy = (snapshot) => snapshot.crowd.here || snapshot.tour.playing !== null
  || snapshot.people.people.some((person) => person.state !== "idle");

// Pictures as they come. A hidden page lets go of its stream, since a browser has only six
// connections for all pages of one server; one that was refused or has gone silent is opened anew.
export function watch(show) {
  const link = $("link");
  let stream = null;
  let timer = 0;

  const say = (state, words) => {
    link.dataset.state = state;
    text(link, words);
    toggle(document.body, "stale", state === "lost");
  };
  const expect = () => {
    clearTimeout(timer);
    timer = setTimeout(lose, SILENCE_MS);
  };
  function close() {
    clearTimeout(timer);
    stream?.close();
    stream = null;
  }
  function open() {
    close();
    stream = new EventSource(`/stream?page=${page}`);
    stream.onopen = () => {
      say("live", "live");
      expect();
    };
    stream.onerror = () => {
      say("lost", "not connected");
      if (stream.readyState === EventSource.CLOSED) lose();
    };
    stream.addEventListener("still", expect);
    stream.onmessage = (event) => {
      expect();
      const snapshot = JSON.parse(event.data);
      show(snapshot);
      if (document.hidden && !isBusy(snapshot)) rest();
    };
    expect();
  }
  function rest() {
    close();
    say("resting", "resting");
  }
  function lose() {
    close();
    say("lost", "not connected");
    timer = setTimeout(open, RETRY_MS);
  }
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && stream === null) open();
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => event.persisted && location.reload());
  open();
}
