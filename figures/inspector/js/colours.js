/** Colours of the page, scales from values to colours, and maps as pictures. */

export const THEMES = {
  light: {
    page: "#ffffff", ink: "#1d2129", muted: "#5d6573", line: "#d5d9e0", faint: "#eef0f4", accent: "#0a5ec2",
    event: "#f2dfa6", chosen: "#e3b341", background: "#eeeeee", yes: "#58b389", other: "#b9bec8", outline: "#00907a",
    problem: "#b3261e", edge: "#a07d1c", // of boxes whose fill is too pale to be seen on the page
  },
  dark: {
    page: "#15171c", ink: "#e8eaee", muted: "#a0a8b5", line: "#3a3f4a", faint: "#22252c", accent: "#6cb2ff",
    event: "#6b5a22", chosen: "#b58a1e", background: "#2a2d34", yes: "#4fb38a", other: "#5a606c", outline: "#46dcc0",
    problem: "#ff8a80", edge: "#c9a54a",
  },
};
/** Lines over time that have no colour of a branch. */
export const LINES = {
  light: ["#1d2129", "#858585", "#1b4f9c", "#d55e00"], dark: ["#e8eaee", "#8d95a3", "#6cb2ff", "#ffa04d"],
};
/** Dashes of the lines of the first, second and third model, in pixels. */
export const MODEL_DASHES = [[], [5, 3], [8, 2, 1.5, 2]];
export const SCALES = { linear: "linear", log: "log", row: "per row" };
const QUANTILE = 0.995; // where a map's colours end, so that single spikes do not leave all else pale
const DECADES = 4; // that the log scale shows

/**
 * A map to draw: frames against frames.
 * @typedef {{key: string, kind: "weights"|"difference"|"similarity", values: Float32Array, mask: ?Uint8Array,
 *            frames: number, title: string, unit: string, here: boolean}} FrameMap   values and mask: shape (query, key);
 *            neither can be asked for before it is here
 */

/** The quantile of the sizes of up to 16,384 evenly spaced values. */
export function topOf(values) {
  const step = Math.max(1, Math.floor(values.length / 16384));
  const sample = [];
  for (let index = 0; index < values.length; index += step | 1) {
    const size = Math.abs(values[index]);
    if (size > 0) sample.push(size);
  }
  if (!sample.length) return 1;
  return Float32Array.from(sample).sort()[Math.floor(QUANTILE * (sample.length - 1))];
}

/** [lowest, highest] value that the colours of a map tell apart. */
export function rangeOf(map, scale, top) {
  if (map.kind === "similarity") return [map.low, 1];
  if (scale === "row") return map.kind === "difference" ? [-1, 1] : [0, 1];
  if (map.kind === "difference") return [-top, top];
  return [scale === "log" ? top * 10 ** -DECADES : 0, top];
}

/** Position in [0, 1] along the colours of each value of one row. */
function position(value, kind, scale, low, high, rowTop) {
  if (kind === "similarity") return (value - low) / (high - low);
  if (scale === "row") value = rowTop > 0 ? value / rowTop : 0;
  if (kind === "difference") {
    if (scale !== "log") return 0.5 + value / (2 * high);
    const size = Math.abs(value) / high;
    const decades = size > 0 ? Math.max(0, 1 + Math.log10(size) / DECADES) : 0;
    return 0.5 + Math.sign(value) * decades / 2;
  }
  if (scale === "log") return value > 0 ? 1 + Math.log10(value / high) / DECADES : 0;
  return value / high;
}

/**
 * A map as a picture with one pixel a pair of frames.
 * @param {FrameMap} map @param {string} scale @param {number} top @param {Uint8Array} table shape (256, 3)
 * @param {string} excluded colour of pairs outside the mask, or without a value
 * @returns {HTMLCanvasElement}
 */
export function pictureOf(map, scale, top, table, excluded) {
  const { values, mask, frames } = map;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = frames;
  const context = canvas.getContext("2d");
  const image = context.createImageData(frames, frames);
  const pixels = new Uint32Array(image.data.buffer);
  const packed = Uint32Array.from({ length: 256 }, (_, step) =>
    0xff000000 | (table[3 * step + 2] << 16) | (table[3 * step + 1] << 8) | table[3 * step]);
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(excluded.slice(at, at + 2), 16));
  const outside = (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
  const [low, high] = rangeOf(map, scale, top);
  for (let query = 0; query < frames; query++) {
    const row = query * frames;
    const rowTop = scale === "row" ? rowTopOf(values, row, frames) : 0;
    for (let at = row; at < row + frames; at++) {
      const value = values[at];
      if (value !== value || (mask && !mask[at])) { pixels[at] = outside; continue; }
      const place = 255 * position(value, map.kind, scale, low, high, rowTop);
      pixels[at] = packed[place <= 0 ? 0 : place >= 255 ? 255 : (place + 0.5) | 0];
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

function rowTopOf(values, start, count) {
  let top = 0;
  for (let at = start; at < start + count; at++) {
    const size = Math.abs(values[at]);
    if (size > top) top = size;
  }
  return top;
}
