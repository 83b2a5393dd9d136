/** Elements of the page, and words and lines on a canvas. */

/** An element with attributes (functions become listeners) and children; words are text, never markup. */
export function create(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

export const FONT = "11px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif";
export const BOLD = `600 ${FONT}`;

export function text(context, words, x, y, { colour, font = FONT, align = "left", baseline = "alphabetic" } = {}) {
  Object.assign(context, { fillStyle: colour, font, textAlign: align, textBaseline: baseline });
  context.fillText(words, x, y);
}

const widths = new Map();
let ruler = null;

/** Pixels across of words in `FONT`; measured once. */
export function widthOf(words) {
  if (!widths.has(words)) {
    ruler ??= Object.assign(document.createElement("canvas").getContext("2d"), { font: FONT });
    widths.set(words, ruler.measureText(words).width);
  }
  return widths.get(words);
}

/** The words, cut with an ellipsis to fit a width in pixels. */
export function fitted(context, words, width, font = FONT) {
  context.font = font;
  if (context.measureText(words).width <= width) return words;
  let low = 0, high = words.length;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (context.measureText(words.slice(0, middle) + "…").width <= width) low = middle; else high = middle - 1;
  }
  return low ? words.slice(0, low) + "…" : "";
}

export function line(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

/** A triangle that points down at a vertical line; of a no-op sink its outline alone. */
export function drawMark(context, kind, x, y, colour) {
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(x - 3, y - 5);
  context.lineTo(x + 3, y - 5);
  context.closePath();
  context.fillStyle = context.strokeStyle = colour;
  context.lineWidth = 1;
  if (kind === "no-op") context.stroke();
  else context.fill();
}
