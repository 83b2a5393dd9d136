/**
 * What edits do to a value. A value is of heads (a list of arrays, a head each), of frames, or a vector: rows are frames, or
 * queries. What is not changed stays the same array, by which the pass knows what it need not compute again.
 */

/** Let a change act on copies of the arrays that it is of. @param {(array, head: number) => void} act on an array and its place */
function onCopies(value, places, act) {
  if (!Array.isArray(value)) {
    const copy = value.slice();
    act(copy, 0);
    return copy;
  }
  return value.map((array, head) => {
    if (!places.includes(head)) return array;
    const copy = array.slice();
    act(copy, head);
    return copy;
  });
}

/** Rows of an array of `frames` rows, or all of a vector. @returns {number[]} first place, and the one after the last */
function placesOf(array, [first, stop], frames) {
  const width = array.length / frames;
  return [first * width, stop * width];
}

/** @param {Array} value a map a head, which heads may share: those that shared one share what becomes of it */
export function withoutEdges(value, places, [first, stop], keys, frames) {
  const changed = new Map();
  return value.map((map, head) => {
    if (!places.includes(head)) return map;
    if (changed.has(map)) return changed.get(map);
    const copy = map.slice();
    for (let query = first; query < stop; query++) copy.fill(0, query * frames + keys[0], query * frames + keys[1]);
    changed.set(map, copy);
    return copy;
  });
}

export function filled(value, places, span, number, frames) {
  return onCopies(value, places, (array) => array.fill(number, ...placesOf(array, span, frames)));
}

export function scaled(value, places, span, factor, frames) {
  return onCopies(value, places, (array) => {
    const [from, to] = placesOf(array, span, frames);
    for (let at = from; at < to; at++) array[at] *= factor;
  });
}

/**
 * Rows become their mean over all frames, those of other seconds, or `zero` (a row; null: of zeros).
 * @param before the value before all changes of the stage, of which the rows are taken
 */
export function patched(value, before, places, span, { source, start, zero }, frames) {
  return onCopies(value, places, (array, head) => {
    const original = Array.isArray(before) ? before[head] : before, width = array.length / frames;
    const [from, to] = placesOf(array, span, frames);
    if (source === "own") array.set(original.subarray(start * width, start * width + to - from), from);
    else {
      const row = source === "mean" ? meanRow(original, frames) : zero ?? new Float32Array(width);
      for (let at = from; at < to; at += width) array.set(row, at);
    }
  });
}

function meanRow(array, frames) {
  const width = array.length / frames, sums = new Float64Array(width);
  for (let at = 0; at < array.length; at++) sums[at % width] += array[at];
  return Float32Array.from(sums, (sum) => sum / frames);
}
