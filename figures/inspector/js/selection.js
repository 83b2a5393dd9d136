/** What is selected to be edited: seconds, or edges of a map. */

/**
 * Frames [first, after the last]; seconds alone, or queries and keys, of which null are all.
 * @typedef {{seconds: ?number[], queries: ?number[], keys: ?number[]}} Selection
 */

/** Frames between two places along a line. */
function framesBetween(from, to, start, length, [first, last]) {
  const frame = (at) => first + (Math.min(Math.max(at - start, 0), length) / length) * (last - first);
  const [low, high] = [Math.floor(frame(Math.min(from, to))), Math.ceil(frame(Math.max(from, to)))];
  return [Math.min(low, last - 1), Math.max(high, low + 1)];
}

/** Seconds of a drag over the lanes. @returns {Selection} */
export function selectedSeconds(from, to, box, span) {
  return { seconds: framesBetween(from.x, to.x, box.x, box.width, span), queries: null, keys: null };
}

/** Queries and keys of a drag over a map. @returns {Selection} */
export function selectedEdges(from, to, box, span) {
  return { seconds: null, queries: framesBetween(from.y, to.y, box.y, box.height, span), keys: framesBetween(from.x, to.x, box.x, box.width, span) };
}

/** The selection in a map: rows are queries, columns keys. @param {CanvasRenderingContext2D} context @param {?Selection} selection */
export function drawOnMap(context, selection, box, span, colours) {
  if (!selection) return;
  const step = box.width / (span[1] - span[0]), place = (frames) => (frames ?? span).map((frame) => (frame - span[0]) * step);
  const [left, right] = place(selection.keys ?? selection.seconds), [top, bottom] = place(selection.queries);
  drawMarked(context, box.x + left, box.y + top, right - left, bottom - top, colours);
}

/** The selection over time: seconds or keys as a band; of queries its upper edge. */
export function drawOverTime(context, selection, box, at, colours) {
  if (!selection) return;
  const keys = selection.seconds ?? selection.keys, { queries } = selection;
  if (keys) drawMarked(context, at(keys[0]), box.y - 2, at(keys[1]) - at(keys[0]), box.height + 4, colours);
  context.fillStyle = colours.edge;
  if (queries) context.fillRect(at(queries[0]), 0, at(queries[1]) - at(queries[0]), 4);
}

function drawMarked(context, x, y, width, height, colours) {
  Object.assign(context, { fillStyle: colours.chosen, strokeStyle: colours.edge });
  context.globalAlpha = 0.25;
  context.fillRect(x, y, width, height);
  context.globalAlpha = 1;
  context.lineWidth = 1.5;
  context.strokeRect(x, y, width, height);
}

/** A span as it is written in a field: `45..61` seconds; null for an empty text. @throws {Error} for any other */
export function spanOfText(words, frameSeconds, frames) {
  if (!words.trim()) return null;
  const match = /^\s*(\d+(?:\.\d+)?)\s*(?:\.\.|–|-)\s*(\d+(?:\.\d+)?)\s*$/.exec(words);
  const span = match && [match[1], match[2]].map((second) => Math.ceil(Number(second) / frameSeconds - 1e-9));
  if (!span || span[0] >= Math.min(span[1], frames)) throw new Error(`${words.trim()}: expected seconds A..B, of 0 to ${frames * frameSeconds}`);
  return [span[0], Math.min(span[1], frames)];
}

/**
 * Times of frames, never after the frame: frames that begin before an end of 0.666667 s would be one more than two of 1/3 s.
 * @param {?number[]} span of frames @returns {?number[]} in seconds from the clip's first frame, to a microsecond
 */
export function secondsOf(span, frameSeconds) {
  return span && span.map((frame) => Number((Math.floor(frame * frameSeconds * 1e6 + 1e-3) / 1e6).toFixed(6)));
}
