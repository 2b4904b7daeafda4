// Locks with node-redlock on the servers that it is given: `node index.mjs VERSION URL...`.
//
// Each line that comes in is a JSON list, what to do and with what; each line that goes out is what came of it.
// Whatever is not said here is as redlock and ioredis have it, and a lock is tried for once.
import { createInterface } from "node:readline";
import { Redis } from "ioredis";
import Redlock5 from "redlock";
import Redlock4 from "redlock-4";

const [version, ...urls] = process.argv.slice(2);
const servers = urls.map((url) => new Redis(url));
// A server that is away for a while would end the process.
servers.forEach((server) => server.on("error", () => {}));

const redlock = { 4: () => new Redlock4(servers, { retryCount: 0 }), 5: () => new Redlock5(servers) }[version]();
const once = version === "5" ? [{ retryCount: 0 }] : [];

let begun;
let giveUp;
let lock;

const acts = {
  begin(name, ttl) {
    const givenUp = new Promise((_, reject) => (giveUp = () => reject(new Error("given up"))));
    begun = Promise.race([redlock.acquire([name], ttl, ...once), givenUp]);
    begun.catch(() => {}); // it is asked for by "outcome"
    return true;
  },
  // Neither version has a way to end an acquire: one can only stop waiting for it.
  cancel() {
    giveUp();
    return true;
  },
  // What whoever holds a lock can ask it.
  async outcome() {
    lock = await begun;
    return [...Object.keys(lock), ...Object.getOwnPropertyNames(Object.getPrototypeOf(lock))];
  },
  async release() {
    await redlock.release(lock);
    return true;
  },
};

const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

say({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
  const [what, ...words] = JSON.parse(line);
  try {
    say({ result: await acts[what](...words) });
  } catch (error) {
    say({ failed: `${error.name}: ${error.message}` });
  }
}
process.exit();
