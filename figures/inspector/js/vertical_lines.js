/** Vertical lines of an attention map: keys that most queries attend to much more than to the median key. */

// As in `analysis.attention.sinks`: times what the median key receives; share of the queries that give more than uniform
// attention would, by more than rounding.
const LINE = 4, MOST = 0.5, ABOVE = 1 + 1e-4;

/**
 * Keys that are vertical lines.
 * @param {Float32Array} values shape (frames, frames) @param {?Uint8Array} mask not 0 where a query may attend to a key; null: everywhere
 * @param {number} frames @returns {number[]}
 */
export function lineKeys(values, mask, frames) {
  const received = new Float64Array(frames), uniform = new Float64Array(frames);
  const queries = new Float64Array(frames), above = new Float64Array(frames);
  for (let query = 0; query < frames; query++) {
    const row = query * frames;
    let sum = 0, count = 0;
    for (let key = 0; key < frames; key++) {
      sum += values[row + key];
      if (!mask || mask[row + key]) count += 1;
    }
    for (let key = 0; key < frames; key++) {
      if (mask && !mask[row + key]) continue;
      const share = sum > 0 ? values[row + key] / sum : 0;
      received[key] += share;
      uniform[key] += 1 / count;
      queries[key] += 1;
      if (share > ABOVE / count) above[key] += 1;
    }
  }
  const ratios = received.map((each, key) => each / uniform[key]);
  const known = ratios.filter((each) => !Number.isNaN(each)).sort();
  const median = known[Math.floor((known.length - 1) / 2)];
  return [...ratios.keys()].filter((key) => ratios[key] / median >= LINE && above[key] / queries[key] >= MOST);
}
