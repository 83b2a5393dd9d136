/** What the layers are made of: norms, the activation, the softmax, gates; arrays are row by row, a frame or query each. */

// Phi, the normal distribution: its values and slopes at steps from -REACH to REACH; between them a cubic, exact to 1e-9.
const STEPS = 64, REACH = 8;
const NODES = normalNodes();

/** The integral of the density by Simpson's rule, in four parts a step. */
function normalNodes() {
  const density = (x) => Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI), count = 2 * REACH * STEPS, width = 1 / STEPS / 4;
  const values = new Float64Array(count + 1), slopes = new Float64Array(count + 1);
  for (let node = 0; node <= count; node++) {
    const x = node / STEPS - REACH, before = x - 1 / STEPS;
    slopes[node] = density(x) / STEPS;
    if (!node) continue;
    const parts = [1, 4, 2, 4, 1].reduce((sum, factor, at) => sum + factor * density(before + at * width), 0);
    values[node] = values[node - 1] + parts * width / 3;
  }
  return { values, slopes, count };
}

/** x Phi(x), in place. @param {Float32Array} array */
export function gelu(array) {
  const { values, slopes, count } = NODES;
  for (let at = 0; at < array.length; at++) {
    const x = array[at], place = (x + REACH) * STEPS;
    if (place <= 0) { array[at] = 0; continue; }
    if (place >= count) continue;
    const node = Math.floor(place), t = place - node, rise = values[node + 1] - values[node];
    const bend = (1 - t) * (slopes[node] - rise) + t * (rise - slopes[node + 1]);
    array[at] = x * (values[node] + t * rise + t * (1 - t) * bend);
  }
  return array;
}

/** @param {Float32Array} rows @param {{weight: Float32Array, bias: Float32Array, eps: number}} norm */
export function layerNorm(rows, { weight, bias, eps }) {
  const width = weight.length, result = new Float32Array(rows.length);
  for (let start = 0; start < rows.length; start += width) {
    let sum = 0, squares = 0;
    for (let at = start; at < start + width; at++) sum += rows[at];
    const mean = sum / width;
    for (let at = start; at < start + width; at++) squares += (rows[at] - mean) ** 2;
    const scale = 1 / Math.sqrt(squares / width + eps);
    for (let at = 0; at < width; at++) result[start + at] = (rows[start + at] - mean) * scale * weight[at] + bias[at];
  }
  return result;
}

/**
 * Softmax of each query over the keys that it may attend to; a query that may attend to none has weights of 0.
 * @param {Float32Array} logits shape (frames, frames) @param {?Uint8Array} mask of that shape; null: every pair
 * @param {?Uint8Array} valid frames that are no padding; null: all
 */
export function attentionWeights(logits, mask, valid, frames) {
  const weights = new Float32Array(logits.length);
  for (let query = 0; query < frames; query++) {
    if (valid && !valid[query]) continue;
    const start = query * frames;
    let most = -Infinity, sum = 0;
    for (let key = 0; key < frames; key++) {
      if ((!mask || mask[start + key]) && (!valid || valid[key]) && logits[start + key] > most) most = logits[start + key];
    }
    for (let key = 0; key < frames; key++) {
      if ((mask && !mask[start + key]) || (valid && !valid[key])) continue;
      sum += weights[start + key] = Math.exp(logits[start + key] - most);
    }
    for (let key = 0; key < frames && sum > 0; key++) weights[start + key] /= sum;
  }
  return weights;
}

/** The first of two gates, whose softmax over both adds to 1. */
export function firstGate(one, other) { return one.map((value, at) => 1 / (1 + Math.exp(other[at] - value))); }

export function oneLess(array) { return array.map((value) => 1 - value); }
export function times(one, other) { return one.map((value, at) => value * other[at]); }
export function plus(one, other) { return one.map((value, at) => value + other[at]); }

/** Rows of all heads side by side, of one array a head. @param {Float32Array[]} heads */
export function joinHeads(heads, frames) {
  const width = heads[0].length / frames, joined = new Float32Array(heads.length * heads[0].length);
  heads.forEach((rows, head) => {
    for (let frame = 0; frame < frames; frame++) {
      joined.set(rows.subarray(frame * width, (frame + 1) * width), (frame * heads.length + head) * width);
    }
  });
  return joined;
}

/** The reverse. @returns {Float32Array[]} */
export function splitHeads(rows, frames, heads) {
  const width = rows.length / frames / heads;
  return Array.from({ length: heads }, (_, head) => {
    const own = new Float32Array(frames * width);
    for (let frame = 0; frame < frames; frame++) {
      const from = (frame * heads + head) * width;
      own.set(rows.subarray(from, from + width), frame * width);
    }
    return own;
  });
}

/** Mean of the rows of valid frames. */
export function meanOfRows(rows, valid, frames) {
  const width = rows.length / frames, sums = new Float64Array(width);
  let count = 0;
  for (let frame = 0; frame < frames; frame++) {
    if (valid && !valid[frame]) continue;
    count += 1;
    for (let at = 0; at < width; at++) sums[at] += rows[frame * width + at];
  }
  return Float32Array.from(sums, (sum) => sum / count);
}
