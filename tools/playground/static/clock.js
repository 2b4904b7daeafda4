// One ticker for everything that moves with time; it rests while the page is hidden, and moves in
// steps of half a second for whoever wants reduced motion.
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const moving = new Set();
let offset = 0;
let last = 0;

export const now = () => Date.now() + offset;
export const synchronize = (at) => { offset = at - Date.now(); };
export const onTick = (move) => moving.add(move);

function tick(moment) {
  if (moment - last >= (calm.matches ? 500 : 50)) {
    last = moment;
    for (const move of moving) move();
  }
  requestAnimationFrame(tick);
}
requestAnimationFrame(tick);
