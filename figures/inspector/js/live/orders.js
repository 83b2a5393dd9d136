/** Rows in another order: what is made of each row by itself need not be computed again, only put in that order. */

const ORIGINS = new WeakMap();

/**
 * Of an array that `inOrder` or `pairsInOrder` made: what it was made from; null: of any other array.
 * @returns {?{from: Float32Array, order: number[]}}
 */
export function originOf(array) { return ORIGINS.get(array) ?? null; }

/** @param {Float32Array} rows @param {number[]} order which row stands where afterwards */
export function inOrder(rows, order) {
  const width = rows.length / order.length, result = new Float32Array(rows.length);
  order.forEach((from, to) => result.set(rows.subarray(from * width, (from + 1) * width), to * width));
  ORIGINS.set(result, { from: rows, order });
  return result;
}

/** The same of a map: its queries and its keys. @param {Float32Array} map shape (frames, frames) */
export function pairsInOrder(map, order) {
  const frames = order.length, places = Int32Array.from(order), result = new Float32Array(map.length);
  for (let query = 0; query < frames; query++) {
    const to = query * frames, from = places[query] * frames;
    for (let key = 0; key < frames; key++) result[to + key] = map[from + places[key]];
  }
  ORIGINS.set(result, { from: map, order });
  return result;
}
