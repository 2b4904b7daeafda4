// The stream of pictures, and what is asked for.
import { $, text, toggle } from "./dom.js";

export const page = crypto.randomUUID();
export const about = await (await fetch("/about")).json();

let hiding = 0;

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
    tell((await answer.json()).detail);
    return answer.ok;
  } catch {
    tell("The playground does not answer. Has it been stopped?");
    return false;
  }
}

export function watch(show) {
  const link = $("link");
  const say = (state, words) => {
    link.dataset.state = state;
    text(link, words);
  };
  const stream = new EventSource(`/stream?page=${page}`);
  stream.onopen = () => say("live", "live");
  stream.onerror = () => say("lost", "not connected");
  stream.onmessage = (event) => show(JSON.parse(event.data));
  addEventListener("pagehide", () => stream.close());
  addEventListener("pageshow", (event) => event.persisted && location.reload());
}
