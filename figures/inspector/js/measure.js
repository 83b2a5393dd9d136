/** How long it takes from a key to the painted frame. */

/**
 * Time from an input event to the painted frame: a key press in an idle page, its drawing, and the task that follows
 * the frame's painting. Steps do not fall on the screen's beat, so waiting for the next frame is in `times`; `work` is
 * what is left without that wait: handling the event, drawing, painting.
 * @param {Inspector} inspector @param {string[]} keys pressed in turn @param {number} steps
 * @returns {Promise<{p50: number, p95: number, longest: number, times: number[], work: number[]}>} milliseconds
 */
export async function measureSteps(inspector, keys, steps) {
  const times = [], work = [];
  for (let step = 0; step < steps; step++) {
    await new Promise((done) => setTimeout(done, 25 + ((step * 7) % 23)));
    const began = performance.now();
    inspector.root.dispatchEvent(new KeyboardEvent("keydown", { key: keys[step % keys.length], bubbles: true, cancelable: true }));
    const handled = performance.now();
    await afterPaint();
    const ended = performance.now();
    times.push(ended - began);
    work.push(handled - began + ended - inspector.frameBegan);
  }
  const rising = [...times].sort((one, other) => one - other), at = (share) => rising[Math.min(steps - 1, Math.ceil(share * steps) - 1)];
  return { p50: at(0.5), p95: at(0.95), longest: rising.at(-1), times, work };
}

/** Resolves in the task after the next frame was painted. */
export function afterPaint() {
  return new Promise((done) => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => { channel.port1.close(); done(); };
    channel.port2.postMessage(0);
  }));
}
