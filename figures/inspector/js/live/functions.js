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

// Powers of two at each whole number and at each of FINE steps between; what is left is a cubic, exact to 1e-10.
const FINE = 64, RANGE = 150;
const POWERS = Float64Array.from({ length: 2 * RANGE + 1 }, (_, place) => 2 ** (place - RANGE));
const BETWEEN = Float64Array.from({ length: FINE }, (_, part) => 2 ** (part / FINE));

/** e^x as a float32 holds it: 0 and 2^150 where that is beyond its range. Three times as fast as `Math.exp`. */
export function exponential(x) {
  const steps = Math.max(-RANGE * FINE, Math.min(RANGE * FINE, x * (FINE / Math.LN2))), step = Math.floor(steps);
  const left = (steps - step) * (Math.LN2 / FINE);
  return POWERS[(step >> 6) + RANGE] * BETWEEN[step & 63] * (1 + left * (1 + left * (0.5 + left / 6)));
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
 * @param {Float32Array} logits shape (frames, frames) @param {{places: Int32Array, ends: Int32Array}} runs of `allowedRuns`
 */
export function attentionWeights(logits, { places, ends }) {
  const weights = new Float32Array(logits.length);
  for (let query = 0, first = 0; query < ends.length; first = ends[query++]) {
    const last = ends[query];
    let most = -Infinity, sum = 0;
    for (let run = first; run < last; run += 2) {
      for (let at = places[run]; at < places[run + 1]; at++) if (logits[at] > most) most = logits[at];
    }
    for (let run = first; run < last; run += 2) {
      for (let at = places[run]; at < places[run + 1]; at++) sum += weights[at] = exponential(logits[at] - most);
    }
    const share = 1 / sum;
    for (let run = first; run < last; run += 2) for (let at = places[run]; at < places[run + 1]; at++) weights[at] *= share;
  }
  return weights;
}

/**
 * The pairs of frames that may attend, as runs of neighbours in a map.
 * @param {?Uint8Array} mask shape (frames, frames); null: every pair @param {?Uint8Array} valid frames that are no padding; null: all
 * @returns {{places: Int32Array, ends: Int32Array}} places: of each run its first, and the one after its last; ends: by query how
 *   many numbers in `places` are its own or of those before
 */
export function allowedRuns(mask, valid, frames) {
  const places = [], ends = new Int32Array(frames);
  for (let query = 0; query < frames; query++) {
    const start = query * frames;
    let open = false;
    for (let key = 0; key <= frames; key++) {
      const allowed = key < frames && (!valid || (valid[query] && valid[key])) && (!mask || mask[start + key]);
      if (Boolean(allowed) !== open) places.push(start + key);
      open = Boolean(allowed);
    }
    ends[query] = places.length;
  }
  return { places: Int32Array.from(places), ends };
}

/** The first of two gates, whose softmax over both adds to 1. */
export function firstGate(one, other) {
  const gate = new Float32Array(one.length);
  for (let at = 0; at < gate.length; at++) gate[at] = 1 / (1 + exponential(other[at] - one[at]));
  return gate;
}

/** Room for the maps of one head: they are wanted until they are multiplied by its values. */
const ROOM = { global: new Float32Array(0), local: new Float32Array(0) };

/**
 * R_g A_g and R_l A_l of a head, until it is called again; and what each key receives of their sum.
 * @returns {{global: Float32Array, local: Float32Array, received: Float64Array}}
 */
export function gatedMaps(gate, first, second, frames) {
  if (ROOM.global.length !== gate.length) for (const branch of ["global", "local"]) ROOM[branch] = new Float32Array(gate.length);
  const { global, local } = ROOM, received = new Float64Array(frames);
  for (let at = 0; at < gate.length;) {
    for (let key = 0; key < frames; key++, at++) {
      const share = gate[at], one = share * first[at], other = (1 - share) * second[at];
      global[at] = one;
      local[at] = other;
      received[key] += one + other;
    }
  }
  return { global, local, received };
}

/** R_g A_g + R_l A_l of a head. */
export function blendedMap(gate, first, second) {
  const map = new Float32Array(gate.length);
  for (let at = 0; at < map.length; at++) map[at] = gate[at] * first[at] + (1 - gate[at]) * second[at];
  return map;
}

/** An array times a gate. */
export function timesGate(array, gate) {
  const result = new Float32Array(array.length);
  for (let at = 0; at < result.length; at++) result[at] = gate[at] * array[at];
  return result;
}

/** What a gate leaves to the other branch. */
export function otherGate(gate) { return gate.map((first) => 1 - first); }

/** Softmax over branches, number by number. @param {Float32Array[]} linears one a branch @returns {Float32Array[]} */
export function gatesOf(linears) {
  if (linears.length === 2) {
    const first = firstGate(...linears);
    return [first, otherGate(first)];
  }
  const gates = linears.map((each) => new Float32Array(each.length));
  for (let at = 0; at < linears[0].length; at++) {
    let most = -Infinity, sum = 0;
    for (const each of linears) if (each[at] > most) most = each[at];
    for (let branch = 0; branch < gates.length; branch++) sum += gates[branch][at] = exponential(linears[branch][at] - most);
    for (const gate of gates) gate[at] /= sum;
  }
  return gates;
}

/** Gates of which some have been changed, see `_adding_to_one` in `gmsa_models/attention/stages.py`. @returns {Float32Array[]} */
export function addingToOne(before, after) {
  const gates = before.map((each) => new Float32Array(each.length));
  for (let at = 0; at < gates[0].length; at++) {
    let fixed = 0, free = 0;
    for (let branch = 0; branch < gates.length; branch++) {
      if (after[branch][at] !== before[branch][at]) fixed += after[branch][at];
      else free += before[branch][at];
    }
    const room = free > 0 ? Math.max(0, 1 - fixed) : 0;
    for (let branch = 0; branch < gates.length; branch++) {
      const changed = after[branch][at] !== before[branch][at];
      const share = changed ? after[branch][at] * (1 - room) / (fixed || 1) : before[branch][at] * room / (free || 1);
      gates[branch][at] = fixed > 0 || room > 0 ? share : 1 / gates.length;
    }
  }
  return gates;
}

export function timesNumber(array, factor) {
  const result = new Float32Array(array.length);
  for (let at = 0; at < result.length; at++) result[at] = factor * array[at];
  return result;
}

export function plus(one, other) {
  const sum = new Float32Array(one.length);
  for (let at = 0; at < sum.length; at++) sum[at] = one[at] + other[at];
  return sum;
}

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
