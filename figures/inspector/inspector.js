/**
 * The inspector: one clip as one or two models saw it, drawn on canvas from a payload of `figures/inspector/payload.py`.
 * It runs as an anywidget (default export) and in a page of its own (`mountPage`); no library, no network, no build step.
 *
 * From top to bottom: payload, colours and map images, state, panels (maps, predictions, lanes), saving, controls,
 * measuring, mounting. A frame is an index from 0; seconds come from the payload. Query = row, key = column. Every panel
 * has two canvases: the picture, drawn again only when its key changes, and the overlay for cursor and pointer.
 */

// ------------------------------------------------------------------------------------------------ payload

let halves = null;

/** Values of all 65,536 half floats. @returns {Float32Array} shape (65536) */
function halfTable() {
  if (halves) return halves;
  halves = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const exponent = (bits >> 10) & 31, fraction = bits & 1023;
    const size = exponent === 0 ? fraction * 2 ** -24
      : exponent === 31 ? (fraction ? NaN : Infinity) : (1 + fraction / 1024) * 2 ** (exponent - 15);
    halves[bits] = bits & 32768 ? -size : size;
  }
  return halves;
}

/** Least recently used values go when their total weight exceeds the capacity. */
class Recent {
  constructor(capacity) { this.capacity = capacity; this.total = 0; this.held = new Map(); }

  /** @param {string} key @param {() => {value: any, weight: number}} make */
  get(key, make) {
    let entry = this.held.get(key);
    if (entry) this.held.delete(key);
    else { entry = make(); this.total += entry.weight; }
    this.held.set(key, entry);
    for (const [oldest, { weight }] of this.held) {
      if (this.total <= this.capacity || this.held.size === 1) break;
      this.held.delete(oldest);
      this.total -= weight;
    }
    return entry.value;
  }
}

/** Bytes of `payload.py` as named arrays, decoded when first asked for. The maps beyond the first view may come later. */
class Payload {
  /** @param {ArrayBuffer} buffer the whole, or its first part @param {?ArrayBuffer} rest the second part */
  constructor(buffer, rest = null) {
    const length = new DataView(buffer).getUint32(0, true);
    this.buffer = buffer;
    this.rest = rest;
    this.start = 4 + length;
    this.header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    this.decoded = new Recent(48e6); // numbers
  }

  has(name) { return name in this.header.arrays; }

  /** Whether an array that there is has come. */
  here(name) {
    const about = this.about(name);
    return !about || Boolean(this.rest) || this.start + about.offset + about.bytes <= this.buffer.byteLength;
  }

  /** @param {string} name @returns {?{type, shape, offset, bytes, exponent, support}} */
  about(name) {
    const about = this.header.arrays[name];
    return about?.same ? this.header.arrays[about.same] : about ?? null;
  }

  /** @param {string} name @returns {?(Float32Array|Float64Array|Uint8Array)} flat, in the order of the array's shape; null until it is here */
  array(name) {
    const about = this.about(name);
    if (!about || !this.here(name)) return null;
    return this.decoded.get(`${about.offset}`, () => {
      const stored = this.stored(about);
      const value = about.support ? spread(stored, this.array(about.support)) : stored;
      if (about.symmetric) mirror(value, about.shape[0]);
      return { value, weight: value.length };
    });
  }

  stored({ type, offset, bytes, exponent }) {
    const later = this.start + offset + bytes > this.buffer.byteLength;
    const buffer = later ? this.rest : this.buffer, place = later ? offset - this.header.first : this.start + offset;
    if (type === "uint8") return new Uint8Array(buffer, place, bytes);
    if (type === "float32") return new Float32Array(buffer, place, bytes / 4);
    if (type === "float64") return new Float64Array(buffer, place, bytes / 8);
    const table = halfTable(), count = bytes / 2, factor = 2 ** -exponent;
    const low = new Uint8Array(buffer, place, count), high = new Uint8Array(buffer, place + count, count);
    const values = new Float32Array(count);
    for (let index = 0; index < count; index++) values[index] = table[low[index] | (high[index] << 8)] * factor;
    return values;
  }
}

/** Values back into their places: one for each entry of the mask that is not 0. */
function spread(values, mask) {
  const full = new Float32Array(mask.length);
  for (let index = 0, next = 0; index < mask.length; index++) if (mask[index]) full[index] = values[next++];
  return full;
}

/** Fill what lies above the diagonal from below it, in place. @param {Float32Array} values shape (size, size) */
function mirror(values, size) {
  for (let row = 0; row < size; row++) {
    for (let column = row + 1; column < size; column++) values[row * size + column] = values[column * size + row];
  }
}

// ------------------------------------------------------------------------------------------------ colours, map images

const THEMES = {
  light: {
    page: "#ffffff", ink: "#1d2129", muted: "#5d6573", line: "#d5d9e0", faint: "#eef0f4", accent: "#0a5ec2",
    event: "#f2dfa6", chosen: "#e3b341", background: "#eeeeee", yes: "#58b389", other: "#b9bec8", outline: "#00907a",
  },
  dark: {
    page: "#15171c", ink: "#e8eaee", muted: "#a0a8b5", line: "#3a3f4a", faint: "#22252c", accent: "#6cb2ff",
    event: "#6b5a22", chosen: "#b58a1e", background: "#2a2d34", yes: "#4fb38a", other: "#5a606c", outline: "#46dcc0",
  },
};
const SCALES = { linear: "linear", log: "log", row: "per row" };
const QUANTILE = 0.995; // where a map's colours end, so that single spikes do not leave all else pale
const DECADES = 4; // that the log scale shows

/**
 * A map to draw: frames against frames.
 * @typedef {{key: string, kind: "weights"|"difference"|"similarity", values: Float32Array, mask: ?Uint8Array,
 *            frames: number, title: string, unit: string, here: boolean}} FrameMap   values and mask: shape (query, key);
 *            neither can be asked for before it is here
 */

/** The quantile of the sizes of up to 16,384 evenly spaced values. */
function topOf(values) {
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
function rangeOf(map, scale, top) {
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
function pictureOf(map, scale, top, table, excluded) {
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

// ------------------------------------------------------------------------------------------------ state

/**
 * What is shown; those in `TRAITS` are the widget's traits.
 * @typedef {{frame: number, modality: string, branch: string, head: number, model: string, against: string,
 *   view: "side"|"difference", scale: string, class_: number, span: number[], pinned: boolean, theme: string,
 *   left: "similarity"|"gradient"|"gate", explanation: string, hover: ?{query: ?number, key: ?number}, playing: boolean, lastHead: number}} State
 *   head -1 = all; lastHead = the head that was chosen last, marked among all; class_ -1 = none; span = [first frame, frame after the last]; hover is the pointer's place
 */
const START = {
  frame: 0, modality: "", branch: "", head: 0, model: "", against: "", view: "side", scale: "linear", class_: -1,
  span: [0, 0], pinned: false, theme: "auto", left: "similarity", explanation: "", hover: null, playing: false, lastHead: 0,
};
const TRAITS = ["frame", "modality", "branch", "head", "model", "against", "view", "scale", "class_", "span", "pinned",
  "theme", "left", "explanation"];

/** Maps that can stand beside the attention maps: kind, title, unit. */
const LEFTS = {
  similarity: ["similarity", "similarity of features", "cosine"],
  gradient: ["weights", "gradient norm of output by input", "gradient norm"],
  gate: ["similarity", "gate of the local branch, mean over heads", "R of the local branch"],
};

// Seconds. Axes of a clip that begins later count from its start: the minutes of a longer time do not fit beside a map.
const LONGEST_CLOCK = 60000;

/** What one payload holds, asked for by what the state says. */
class Scene {
  /** @param {Payload} payload */
  constructor(payload) {
    this.payload = payload;
    const { clip, models } = payload.header;
    Object.assign(this, { clip, models, frames: clip.frames, seconds: payload.array("seconds") });
    this.origin = this.seconds[0] >= LONGEST_CLOCK ? this.seconds[0] : 0; // of the times on the axes, in seconds
    this.classes = new Map(clip.classes.map((each) => [each.label, each]));
    this.modalities = [...new Set(models.flatMap((model) => model.modalities))];
    this.pictures = new Recent(24e6); // pixels
    this.differences = new Recent(40e6); // numbers
    this.tops = new Map();
  }

  index(name) { return this.models.findIndex((model) => model.name === name); }

  /** Heads that a model's branch has, from 0. */
  heads(name, modality, branch) {
    const index = this.index(name);
    return index < 0 ? [] : Array.from({ length: this.models[index].heads }, (_, head) => head)
      .filter((head) => this.payload.has(`${index}/attention/${modality}/${branch}/${head}`));
  }

  branches(name, modality) {
    return (this.models[this.index(name)]?.branches ?? []).filter((each) => this.heads(name, modality, each).length);
  }

  /** Models shown, the first one first. */
  shown(state) { return [state.model, state.against].filter(Boolean).map((name) => this.index(name)); }

  /** The state with every value made one that the payload has; the rules are those of `Choices.nearest`. @param {State} state @returns {State} */
  valid(state) {
    const next = { ...state };
    const pick = (value, known) => (known.includes(value) ? value : known[0] ?? "");
    next.model = pick(next.model, this.models.map((model) => model.name));
    next.against = next.against !== next.model && this.index(next.against) >= 0 ? next.against : "";
    next.modality = pick(next.modality, this.models[this.index(next.model)].modalities);
    next.branch = pick(next.branch, this.branches(next.model, next.modality));
    const heads = this.heads(next.model, next.modality, next.branch);
    const nearest = (head) => heads.reduce((best, each) => (Math.abs(each - head) < Math.abs(best - head) ? each : best), heads[0] ?? 0);
    if (next.head !== -1) next.lastHead = next.head = nearest(next.head);
    next.lastHead = nearest(next.lastHead);
    next.scale = pick(next.scale, Object.keys(SCALES));
    next.view = pick(next.view, ["side", "difference"]);
    next.theme = pick(next.theme, ["auto", "light", "dark"]);
    next.left = this.lefts(next).includes(next.left) ? next.left : "similarity";
    next.explanation = pick(next.explanation, this.explanations(next.model));
    if (!this.classes.has(next.class_)) next.class_ = -1;
    const clamp = (value, low, high) => Math.min(Math.max(Math.round(Number(value)) || 0, low), high);
    next.frame = clamp(next.frame, 0, Math.max(0, this.frames - 1));
    const first = clamp(next.span?.[0], 0, Math.max(0, this.frames - 1));
    const last = clamp(next.span?.[1], 0, this.frames);
    next.span = last > first ? [first, last] : [0, this.frames];
    return next;
  }

  /** Methods that explain a model's class. */
  explanations(name) { return Object.keys(this.models[this.index(name)]?.explanations ?? {}); }

  /** What can stand beside the attention maps. */
  lefts(state) {
    const index = this.index(state.model), { modality } = state;
    return ["similarity", "gradient", "gate"].filter((name) => this.payload.has(this.leftName(name, index, modality)));
  }

  leftName(name, index, modality) { return name === "similarity" ? `similarity/${modality}` : `${index}/${name}/${modality}`; }

  /** The branch that stands for `branch` in a model: the same, or its first. */
  branchOf(index, branch) {
    const { branches } = this.models[index];
    return branches.includes(branch) ? branch : branches[0];
  }

  /** @returns {?FrameMap} of one model, branch and head */
  attention(index, modality, branch, head) {
    const model = this.models[index];
    const own = this.branchOf(index, branch);
    const name = `${index}/attention/${modality}/${own}/${head}`;
    if (!this.payload.has(name)) return null;
    const { payload, frames } = this, { support } = payload.about(name);
    return {
      key: name, kind: "weights", head, branch: own, frames, title: `${model.label} · ${own}`, unit: "attention weight",
      here: payload.here(name),
      get values() { return payload.array(name); },
      get mask() { return support ? payload.array(support) : null; },
    };
  }

  /** First less second, of branches of the same name: others are not of the same pairs. @returns {?FrameMap} */
  difference(first, second, modality, branch, head) {
    const [one, other] = [first, second].map((index) => this.attention(index, modality, branch, head));
    if (!one || !other || one.branch !== other.branch) return null;
    const key = `${one.key} - ${other.key}`, { differences, frames } = this;
    const once = (name, make) => differences.get(`${name} ${key}`, () => ({ value: make(), weight: frames ** 2 }));
    const masked = one.mask && other.mask;
    return {
      key, kind: "difference", head, frames, unit: "difference of weights", here: one.here && other.here,
      title: `${this.models[first].label} − ${this.models[second].label} · ${one.branch}`,
      get values() { return once("values", () => one.values.map((weight, at) => weight - other.values[at])); },
      get mask() { return masked ? once("mask", () => one.mask.map((there, at) => there | other.mask[at])) : null; },
    };
  }

  /** Similarity of features, norms of gradients, or gates. @returns {?FrameMap} */
  leftMap(state) {
    const { payload } = this, name = this.leftName(state.left, this.index(state.model), state.modality);
    if (!payload.has(name)) return null;
    const [kind, title, unit] = LEFTS[state.left];
    const here = payload.here(name);
    return { key: name, kind, title, unit, mask: null, frames: this.frames, here, low: here ? this.lowest(name) : 0,
      get values() { return payload.array(name); } };
  }

  /** The least value of an array, at most 0. */
  lowest(name) {
    return this.differences.get(`lowest ${name}`, () => {
      let low = 0;
      for (const value of this.payload.array(name)) if (value < low) low = value;
      return { value: low, weight: 1 };
    });
  }

  /** Value at which the colours of a map end. @param {FrameMap[]} maps that share their colours */
  top(maps) {
    return Math.max(...maps.map((map) => {
      if (!this.tops.has(map.key)) this.tops.set(map.key, topOf(map.values));
      return this.tops.get(map.key);
    }));
  }

  /** @param {FrameMap} map @param {string} scale @param {number} top @param {string} theme "light" or "dark" */
  picture(map, scale, top, theme) {
    const table = this.payload.array(`colours/${map.kind}-${theme}`);
    return this.pictures.get(`${map.key}|${scale}|${top}|${theme}`, () => ({
      value: pictureOf(map, scale, top, table, this.payload.header.excluded[theme]), weight: this.frames ** 2,
    }));
  }

  /** A curve over frames. @returns {?Float32Array} shape (frame) */
  curve(index, name, modality, branch) {
    return this.payload.array([index, name, modality, branch].filter((part) => part !== undefined).join("/"));
  }

  /** Share of all gradient that goes to each frame, times frames: 1 = even. @returns {?Float32Array} shape (frame) */
  gradientMass(index, modality) {
    const name = `${index}/gradient/${modality}`, values = this.payload.array(name), frames = this.frames;
    if (!values) return null;
    return this.differences.get(`mass ${name}`, () => {
      const mass = new Float32Array(frames);
      let total = 0;
      for (let at = 0; at < values.length; at++) {
        if (values[at] === values[at]) { mass[at % frames] += values[at]; total += values[at]; }
      }
      return { value: mass.map((each) => (total > 0 ? (each * frames) / total : NaN)), weight: frames };
    });
  }

  /** Minutes and seconds at which a frame starts. */
  clock(frame) { return clock(this.seconds[frame] ?? 0); }

  /** A time as the axes say it: from the clip's start, with a plus, where the whole would be too long. */
  axisClock(second) { return `${this.origin ? "+" : ""}${clock(second - this.origin)}`; }

  /** Round times for an axis, in seconds. */
  ticks(from, to, count) { return ticks(from - this.origin, to - this.origin, count).map((each) => each + this.origin); }

  end() { return this.frames ? this.seconds[this.frames - 1] + this.clip.frame_seconds : 0; }

  /** Seconds at a frame's edge; `frame` may be the number of frames. */
  edge(frame) { return frame < this.frames ? this.seconds[frame] : this.end(); }

  /** The source video at a frame, or an empty text. */
  address(frame) {
    if (!this.clip.url) return "";
    const second = Math.floor(this.seconds[frame] ?? 0), address = new URL(this.clip.url);
    if (/(^|\.)(youtube\.com|youtu\.be)$/.test(address.hostname)) address.searchParams.set("t", `${second}s`);
    else address.hash = `t=${second}`;
    return address.href;
  }
}

function clock(seconds) {
  const whole = Math.floor(seconds + 1e-6), rest = seconds - whole;
  const text = `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
  return rest > 0.005 ? text + rest.toFixed(2).slice(1) : text;
}

/** A number with the digits that it carries. */
function told(value, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  return (size < 1e-3 || size >= 1e5 ? value.toExponential(digits - 1) : Number(value.toPrecision(digits)).toString())
    .replace("-", "−");
}

// ------------------------------------------------------------------------------------------------ panels

const FONT = "11px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif";
const BOLD = `600 ${FONT}`;
const GUTTER = { left: 142, right: 138 }; // of the lanes

function text(context, words, x, y, { colour, font = FONT, align = "left", baseline = "alphabetic" } = {}) {
  Object.assign(context, { fillStyle: colour, font, textAlign: align, textBaseline: baseline });
  context.fillText(words, x, y);
}

/** The words, cut with an ellipsis to fit a width in pixels. */
function fitted(context, words, width, font = FONT) {
  context.font = font;
  if (context.measureText(words).width <= width) return words;
  let low = 0, high = words.length;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (context.measureText(words.slice(0, middle) + "…").width <= width) low = middle; else high = middle - 1;
  }
  return low ? words.slice(0, low) + "…" : "";
}

function line(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

/** Round steps in seconds, at most `count` of them. */
function ticks(from, to, count) {
  const steps = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 1200, 3600];
  const step = steps.find((each) => (to - from) / each <= count) ?? 7200;
  const found = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) found.push(at);
  return found;
}

/** A part of the view: a picture below, an overlay above, and where the pointer is in it. */
class Panel {
  constructor(inspector, name, role) {
    Object.assign(this, { inspector, scene: inspector.scene, name, width: 0, height: 0, drawn: "" });
    this.base = document.createElement("canvas");
    this.overlay = document.createElement("canvas");
    this.overlay.className = "overlay";
    this.base.setAttribute("role", "img");
    this.base.setAttribute("aria-label", role);
    this.overlay.setAttribute("aria-hidden", "true");
    this.element = create("div", { class: `panel ${name}` }, this.base, this.overlay);
    this.listen();
  }

  resize(width, height, ratio) {
    if (this.width === width && this.height === height && this.ratio === ratio) return;
    Object.assign(this, { width, height, ratio, drawn: "" });
    for (const canvas of [this.base, this.overlay]) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
    }
    Object.assign(this.element.style, { width: `${width}px`, height: `${height}px` });
  }

  /** Draw what changed; a canvas that is touched is copied to the screen whole, which costs more than drawing. */
  paint(state, theme) {
    const key = `${theme}|${this.key(state)}`, above = this.overlayKey(state);
    if (key === this.drawn && above === this.drawnAbove) return;
    if (key !== this.drawn) this.draw(this.cleared(this.base), state, theme);
    if (above) this.drawOverlay(this.cleared(this.overlay), state, theme);
    Object.assign(this, { drawn: key, drawnAbove: above });
  }

  /** What the overlay depends on, beside the picture. */
  overlayKey({ frame, pinned, hover }) { return [frame, pinned, hover?.query, hover?.key, this.brush].join("|"); }

  cleared(canvas) {
    const context = canvas.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    return context;
  }

  listen() {
    const at = (event) => {
      const box = this.overlay.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    let pressed = null;
    this.overlay.addEventListener("pointermove", (event) => {
      const [x, y] = at(event);
      const place = this.locate(x, y);
      this.brush = pressed && this.span && Math.abs(x - pressed.x) > 4 ? [pressed.x, x] : null;
      this.inspector.set({ hover: place });
    });
    this.overlay.addEventListener("pointerleave", () => { this.inspector.set({ hover: null }); });
    this.overlay.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      const [x, y] = at(event);
      pressed = { x, y };
      this.overlay.setPointerCapture(event.pointerId);
      this.inspector.root.focus({ preventScroll: true });
    });
    this.overlay.addEventListener("pointerup", (event) => {
      if (!pressed) return;
      const [x, y] = at(event);
      const brush = this.brush;
      pressed = this.brush = null;
      if (brush && this.span) this.inspector.set({ span: this.span(...brush) });
      else this.click(x, y);
    });
    this.overlay.addEventListener("dblclick", () => { this.inspector.set({ span: [0, this.scene.frames], pinned: false }); });
  }

  /** Pin the frame under the pointer, or let go of it. */
  click(x, y) {
    const place = this.locate(x, y);
    const frame = place?.query ?? place?.key;
    if (frame === undefined || frame === null) return;
    const { pinned, frame: current } = this.inspector.state;
    this.inspector.set({ frame, pinned: !(pinned && frame === current) });
  }

  drawBrush(context, box, colours) {
    if (!this.brush) return;
    const [from, to] = [Math.min(...this.brush), Math.max(...this.brush)]
      .map((x) => Math.min(Math.max(x, box.x), box.x + box.width));
    context.globalAlpha = 0.22;
    context.fillStyle = colours.accent;
    context.fillRect(from, box.y, to - from, box.height);
    context.globalAlpha = 1;
  }
}

/** Frames between two places along a box, at least two; in either order. */
function spanBetween(from, to, box, span) {
  const frame = (x) => span[0] + ((Math.min(Math.max(x, box.x), box.x + box.width) - box.x) / box.width) * (span[1] - span[0]);
  const first = Math.floor(frame(Math.min(from, to))), last = Math.ceil(frame(Math.max(from, to)));
  return [Math.max(span[0], Math.min(first, span[1] - 2)), Math.min(span[1], Math.max(last, first + 2))];
}

// ---- maps

const EDGE = { left: 36, top: 22, right: 6, bottom: 42 };

/** One or several maps of frames against frames in one panel; several when all heads are shown. */
class MapPanel extends Panel {
  /** @param {(state: State) => {maps: FrameMap[], share: FrameMap[], title: string, empty: string}} source */
  constructor(inspector, name, role, source) {
    super(inspector, name, role);
    this.source = source;
    this.span = (from, to) => spanBetween(from, to, { ...this.cellAt(from, this.lastY), height: 1 }, inspector.state.span);
    this.overlay.addEventListener("pointerdown", (event) => {
      this.lastY = event.clientY - this.overlay.getBoundingClientRect().top;
    }, true);
  }

  key(state) {
    const { maps, share } = this.source(state);
    const told = (map) => `${map.key}${map.here ? "" : ", on its way"}`;
    return [maps.map(told), share.map(told), state.scale, state.span].join("|");
  }

  overlayKey(state) { return super.overlayKey(state) + (this.maps?.length > 1 ? `|${state.lastHead}` : ""); }

  /** Pixels that `count` maps really use of a width. */
  widthFor(count, width, height) {
    return Math.ceil(Math.max(...this.cells(count, width, height).map((box) => box.x + box.width)) + EDGE.right);
  }

  /** Squares for `count` maps. @returns {{x, y, width, height}[]} */
  cells(count, panelWidth = this.width, panelHeight = this.height) {
    const width = panelWidth - EDGE.left - EDGE.right, height = panelHeight - EDGE.top - EDGE.bottom;
    const gap = 6;
    let best = { size: 0, columns: 1 };
    for (let columns = 1; columns <= Math.max(1, count); columns++) {
      const rows = Math.ceil(count / columns);
      const size = Math.min((width - gap * (columns - 1)) / columns, (height - gap * (rows - 1)) / rows);
      if (size > best.size) best = { size, columns };
    }
    return Array.from({ length: count }, (_, index) => ({
      x: EDGE.left + (index % best.columns) * (best.size + gap),
      y: EDGE.top + Math.floor(index / best.columns) * (best.size + gap), width: best.size, height: best.size,
    }));
  }

  cellAt(x, y) {
    const cells = this.cells(this.maps?.length || 1);
    return cells.find((box) => x >= box.x && x < box.x + box.width && y >= box.y && y < box.y + box.height) ?? cells[0];
  }

  locate(x, y) {
    const cells = this.cells(this.maps?.length ?? 0);
    const index = cells.findIndex((box) => x >= box.x && x < box.x + box.width && y >= box.y && y < box.y + box.height);
    if (index < 0) return null;
    const box = cells[index], [first, last] = this.inspector.state.span;
    const frame = (part) => Math.min(last - 1, first + Math.floor(part * (last - first)));
    return { panel: this.name, map: index, query: frame((y - box.y) / box.height), key: frame((x - box.x) / box.width) };
  }

  click(x, y) {
    const place = this.locate(x, y);
    if (place && this.maps.length > 1) this.inspector.set({ head: this.maps[place.map].head });
    else super.click(x, y);
  }

  draw(context, state, theme) {
    const colours = THEMES[theme];
    const { maps, share, title, empty } = this.source(state);
    const here = [...maps, ...share].every((map) => map.here);
    this.maps = here ? maps : [];
    text(context, fitted(context, title, this.width - EDGE.left - 2, BOLD), EDGE.left, 13, { colour: colours.ink, font: BOLD });
    if (!this.maps.length) {
      text(context, here ? empty : "on its way from the kernel", EDGE.left, EDGE.top + 18, { colour: colours.muted });
      return;
    }
    const cells = this.cells(maps.length);
    const top = maps[0].kind === "similarity" ? 1 : this.scene.top(share);
    maps.forEach((map, index) => this.drawMap(context, map, cells[index], state, theme, top, maps.length > 1));
    this.drawAxes(context, cells[0], state, colours);
    this.drawScale(context, maps[0], cells, state, theme, top);
  }

  drawMap(context, map, box, state, theme, top, named) {
    const [first, last] = state.span, count = last - first;
    const mapTop = named && map.kind === "weights" ? this.scene.top([map]) : top;
    const picture = this.scene.picture(map, state.scale, mapTop, theme);
    context.imageSmoothingEnabled = count > box.width * this.ratio;
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, first, first, count, count, box.x, box.y, box.width, box.height);
    context.strokeStyle = THEMES[theme].line;
    context.lineWidth = 1;
    context.strokeRect(box.x - 0.5, box.y - 0.5, box.width + 1, box.height + 1);
    if (!named) return;
    context.fillStyle = THEMES[theme].page;
    context.globalAlpha = 0.85;
    context.fillRect(box.x + 2, box.y + 2, map.head > 8 ? 18 : 12, 14);
    context.globalAlpha = 1;
    text(context, `${map.head + 1}`, box.x + 4, box.y + 13, { colour: THEMES[theme].ink, font: BOLD });
  }

  drawAxes(context, box, state, colours) {
    const { scene } = this, [first, last] = state.span;
    const from = scene.edge(first), to = scene.edge(last);
    const bottom = Math.max(...this.cells(this.maps.length).map((cell) => cell.y + cell.height));
    const place = (second) => (second - from) / (to - from || 1);
    for (const second of scene.ticks(from, to, Math.max(2, Math.floor(box.width / 52)))) {
      const along = place(second), align = along > 0.93 ? "right" : "center";
      text(context, scene.axisClock(second), box.x + along * box.width, bottom + 13, { colour: colours.muted, align });
      text(context, scene.axisClock(second), box.x - 4, box.y + along * box.height, { colour: colours.muted, align: "right", baseline: "middle" });
    }
  }

  drawScale(context, map, cells, state, theme, top) {
    const colours = THEMES[theme], many = cells.length > 1;
    const [low, high] = rangeOf(map, state.scale, top);
    const y = Math.max(...cells.map((cell) => cell.y + cell.height)) + 22, x = cells[0].x + 30, width = Math.round(Math.min(84, this.width / 4));
    const table = this.scene.payload.array(`colours/${map.kind}-${theme}`);
    for (let step = 0; step < width; step++) {
      const at = 3 * Math.round((255 * step) / (width - 1));
      context.fillStyle = `rgb(${table[at]},${table[at + 1]},${table[at + 2]})`;
      context.fillRect(x + step, y, 1.05, 9);
    }
    const ends = many && state.scale !== "row" ? ["0", "own top"] : [told(low, 2), told(high, 2)];
    text(context, ends[0], x - 4, y + 8.5, { colour: colours.muted, align: "right" });
    const unit = state.scale === "row" && map.kind !== "similarity" ? "share of the row's largest" : map.unit;
    const scale = state.scale === "log" && map.kind !== "similarity" ? ", log" : "";
    const words = fitted(context, `${ends[1]}  ${unit}${scale}`, this.width - x - width - 8);
    text(context, words, x + width + 5, y + 8.5, { colour: colours.muted });
  }

  drawOverlay(context, state, theme) {
    if (!this.maps?.length) return;
    const colours = THEMES[theme];
    this.cells(this.maps.length).forEach((box, index) => {
      context.save();
      context.beginPath();
      context.rect(box.x, box.y, box.width, box.height);
      context.clip();
      this.drawCross(context, box, state, colours);
      this.drawBrush(context, box, colours);
      context.restore();
      if (this.maps.length > 1 && this.maps[index].head === this.inspector.state.lastHead) {
        context.strokeStyle = colours.accent;
        context.lineWidth = 2;
        context.strokeRect(box.x - 1, box.y - 1, box.width + 2, box.height + 2);
      }
    });
  }

  drawCross(context, box, state, colours) {
    const [first, last] = state.span, step = box.width / (last - first);
    const at = (frame) => (frame - first) * step;
    const band = Math.max(1, step);
    context.fillStyle = colours.accent;
    context.globalAlpha = state.pinned ? 0.55 : 0.4;
    context.fillRect(box.x, box.y + at(state.frame), box.width, band);
    context.fillRect(box.x + at(state.frame), box.y, band, box.height);
    context.globalAlpha = 1;
    if (state.pinned) this.drawNeighbourhood(context, box, state, at, colours);
    const { hover } = state;
    if (!hover) return;
    context.strokeStyle = colours.ink;
    context.globalAlpha = 0.75;
    context.lineWidth = 1;
    const centre = (frame) => at(frame + 0.5);
    if (hover.query !== null && hover.query !== undefined) line(context, box.x, box.y + centre(hover.query), box.x + box.width, box.y + centre(hover.query));
    if (hover.key !== null && hover.key !== undefined) line(context, box.x + centre(hover.key), box.y, box.x + centre(hover.key), box.y + box.height);
    context.globalAlpha = 1;
  }

  /** N_i of the pinned frame: a box around each run of its keys in its row. */
  drawNeighbourhood(context, box, state, at, colours) {
    context.strokeStyle = colours.outline;
    context.lineWidth = 2;
    for (const [from, to] of this.inspector.neighbours(state)) {
      const height = Math.max(7, at(1) - at(0) + 3), middle = at(state.frame + 0.5);
      context.strokeRect(box.x + at(from), box.y + middle - height / 2, at(to) - at(from), height);
    }
  }
}

// ---- predictions

const ROW = 31;

/** Probabilities of the most likely classes and of the clip's labels, of one model or two. */
class PredictionPanel extends Panel {
  key(state) { return [state.model, state.against, state.class_].join("|"); }

  overlayKey() { return ""; }

  /** Classes to list: the most likely, then labels of the clip, each with its rank. @returns {object[]} */
  rows(state) {
    const { scene } = this, shown = scene.shown(state);
    const scores = scene.payload.array(`${shown[0]}/score`);
    if (!scores) return [];
    const classes = scene.models[shown[0]].classes;
    const order = [...scores.keys()].sort((one, other) => scores[other] - scores[one]);
    const count = Math.max(1, Math.floor((this.height - 26) / ROW));
    const ranked = order.map((at, rank) => ({ ...scene.classes.get(classes[at]), rank: rank + 1 }));
    const missed = ranked.slice(Math.max(0, count - 3)).filter((each) => each.true || each.label === state.class_).slice(0, 3);
    const found = ranked.slice(0, count - missed.length);
    return [...found, ...missed.filter((each) => !found.some((other) => other.label === each.label))].map((each) => ({
      ...each, scores: shown.map((index) => {
        const at = scene.models[index].classes.indexOf(each.label);
        return at < 0 ? NaN : scene.payload.array(`${index}/score`)?.[at] ?? NaN;
      }),
    }));
  }

  locate() { return null; }

  click(x, y) {
    const row = this.listed?.[Math.floor((y - 22) / ROW)];
    if (row) this.inspector.set({ class_: row.label === this.inspector.state.class_ ? -1 : row.label });
  }

  draw(context, state, theme) {
    const colours = THEMES[theme], width = this.width - 10;
    this.listed = this.rows(state);
    const names = this.scene.shown(state).map((index) => this.scene.models[index].label).join(" | ");
    text(context, fitted(context, `predictions · ${names}`, width, BOLD), 4, 13, { colour: colours.ink, font: BOLD });
    this.listed.forEach((row, index) => this.drawRow(context, row, 22 + index * ROW, width, state, colours));
    this.base.setAttribute("aria-label", "Predictions: " + this.listed.map((row) =>
      `${row.name} ${row.scores.map((score) => `${(100 * score).toFixed(1)} percent`).join(" and ")}${row.true ? ", a label" : ""}`).join("; "));
  }

  drawRow(context, row, y, width, state, colours) {
    if (row.label === state.class_) {
      context.fillStyle = colours.faint;
      context.fillRect(0, y, this.width, ROW - 2);
    }
    const percent = row.scores.map((score) => (Number.isNaN(score) ? "–" : `${(100 * score).toFixed(1)}`)).join(" | ") + " %";
    context.font = FONT;
    const room = width - context.measureText(percent).width - 12;
    const rank = row.rank > this.listed.length ? ` #${row.rank}` : "";
    const name = `${row.true ? "✓ " : ""}${row.name}${rank}`;
    text(context, fitted(context, name, room, row.true ? BOLD : FONT), 4, y + 12, { colour: colours.ink, font: row.true ? BOLD : FONT });
    text(context, percent, width, y + 12, { colour: colours.muted, align: "right" });
    row.scores.forEach((score, index) => {
      const height = row.scores.length > 1 ? 4 : 8, top = y + 17 + index * 5;
      context.fillStyle = colours.faint;
      context.fillRect(4, top, width - 4, height);
      context.fillStyle = row.true ? colours.yes : colours.other;
      context.globalAlpha = index ? 0.6 : 1;
      if (score > 0) context.fillRect(4, top, (width - 4) * score, height);
      context.globalAlpha = 1;
    });
  }

  drawOverlay() {}
}

// ---- lanes over time

/**
 * @typedef {{name: string, unit: string, height: number, series: Series[], reference: ?number, range: ?number[]}} Lane
 * @typedef {{label: string, colour: string, dashed: boolean, values: Float32Array}} Series   values: shape (frame)
 */

/** Everything over time, one lane under the other, on one axis. */
class LanePanel extends Panel {
  constructor(inspector) {
    super(inspector, "lanes", "Over time: frames, known segments, attention profiles, gates, sensitivity, gradient");
    this.span = (from, to) => spanBetween(from, to, this.box(), inspector.state.span);
    this.thumbnails = null;
    const bytes = this.scene.payload.array("thumbnails");
    if (bytes) createImageBitmap(new Blob([bytes], { type: "image/jpeg" })).then((image) => {
      this.thumbnails = image;
      this.drawn = "";
      inspector.schedule();
    });
  }

  box() { return { x: GUTTER.left, y: 0, width: this.width - GUTTER.left - GUTTER.right, height: this.height - 18 }; }

  key(state) {
    return [state.model, state.against, state.modality, state.span, state.class_, state.explanation, state.pinned && state.branch,
      state.pinned && state.frame, state.pinned && state.lastHead].join("|");
  }

  /** Height in pixels that the lanes need. */
  wanted(state) { return this.stack(state).reduce((sum, lane) => sum + lane.height, 18); }

  stack(state) {
    const { clip, modalities } = this.scene;
    const strips = clip.thumbnails ? [{ kind: "thumbnails", name: "frames", height: clip.thumbnails.height + 4 }]
      : modalities.filter((each) => this.scene.payload.has(`strip/${each}`))
        .map((each) => ({ kind: "strip", name: each, modality: each, height: 15 }));
    const segments = clip.segments.length ? [{ kind: "segments", name: "segments", height: 24 }] : [];
    return [...strips, ...segments, ...this.curves(state)];
  }

  /** @returns {Lane[]} those for which the payload has values */
  curves(state) {
    const { scene } = this, theme = this.inspector.theme();
    const colours = scene.payload.header.branches[theme], ink = THEMES[theme].ink;
    const shown = scene.shown(state);
    const each = (make) => shown.flatMap((index, order) => make(index).filter(({ values }) => values)
      .map((series) => ({ ...series, dashed: order > 0, model: order })));
    const byBranch = (name) => each((index) => scene.models[index].branches.map((branch) =>
      ({ label: branch, colour: colours[branch], values: scene.curve(index, name, state.modality, branch) })));
    const single = (make, label) => each((index) => [{ label, colour: ink, values: make(index) }]);
    const lanes = [
      { name: "attention received", unit: "1 = uniform", height: 64, series: byBranch("profile"), reference: 1, range: [0, null] },
      { name: "gates", unit: "adding to 1", height: 50, series: byBranch("gate"), reference: 0.5, range: null },
      { name: "contribution", unit: "norm in the output", height: 50, series: byBranch("contribution"), reference: null, range: [0, null] },
      { name: "sensitivity S", unit: "1 = all local", height: 50, reference: 0.5, range: null,
        series: single((index) => scene.curve(index, "sensitivity", state.modality), "S") },
      { name: "gradient received", unit: "1 = even", height: 50, reference: 1, range: [0, null],
        series: single((index) => scene.gradientMass(index, state.modality), "gradient") },
      { name: "explanation", unit: "", height: 66, reference: 0, range: null,
        note: `${state.explanation}${this.explained(shown)}   ${scene.models[shown[0]].explanations?.[state.explanation] ?? ""}`,
        series: single((index) => scene.curve(index, "explanation", state.modality, state.explanation), "value") },
      ...(state.pinned ? [this.pinnedLane(state, colours)] : []),
    ];
    return lanes.filter((lane) => lane.series.length).map((lane) => ({ kind: "curves", ...lane }));
  }

  /** Of which class the explanations are; of each model by its name where they are of different ones. */
  explained(shown) {
    const models = shown.map((index) => this.scene.models[index]).filter((model) => model.explained);
    const same = new Set(models.map((model) => model.explained)).size < 2;
    return (same ? models.slice(0, 1) : models)
      .map((model) => ` of ${model.explained}${same ? "" : ` (${model.label})`}`).join(" and");
  }

  /** What the pinned frame attends to: its row. */
  pinnedLane(state, colours) {
    const { scene } = this, frames = scene.frames;
    const head = state.lastHead;
    const series = scene.shown(state).flatMap((index, order) => {
      const map = scene.attention(index, state.modality, state.branch, head);
      if (!map?.here) return [];
      const row = map.values.subarray(state.frame * frames, (state.frame + 1) * frames);
      const label = map.branch === state.branch ? "weight" : map.branch;
      return [{ label, colour: colours[map.branch], dashed: order > 0, model: order, values: row }];
    });
    return { name: `${scene.axisClock(scene.seconds[state.frame])} attends to`, unit: `head ${head + 1}, ${state.branch}`, height: 50, series,
      reference: 1 / frames, range: [0, null] };
  }

  place(state, box = this.box()) {
    const [first, last] = state.span;
    return (frame) => box.x + ((frame - first) / (last - first || 1)) * box.width;
  }

  locate(x, y) {
    const box = this.box(), [first, last] = this.inspector.state.span;
    if (x < box.x || x >= box.x + box.width || last <= first) return null;
    const frame = Math.min(last - 1, first + Math.floor(((x - box.x) / box.width) * (last - first)));
    return { panel: "lanes", query: null, key: frame, y };
  }

  click(x, y) {
    const place = this.locate(x, y);
    if (!place) return;
    const { pinned, frame } = this.inspector.state;
    this.inspector.set({ frame: place.key, pinned: !(pinned && place.key === frame) });
  }

  draw(context, state, theme) {
    const colours = THEMES[theme];
    this.lanes = this.stack(state);
    let y = 0;
    for (const lane of this.lanes) {
      const above = lane.note ? 13 : 0; // room for a note over the curves
      const box = { ...this.box(), y: y + 3 + above, height: lane.height - 6 - above };
      Object.assign(lane, { y, box });
      text(context, lane.name, 2, lane.kind === "curves" ? y + 15 : y + lane.height / 2 + 4,
        { colour: colours.ink, font: lane.kind === "curves" ? BOLD : FONT });
      context.save();
      context.beginPath();
      context.rect(box.x, box.y - 1, box.width, box.height + 2);
      context.clip();
      this[`draw_${lane.kind}`](context, lane, state, colours);
      context.restore();
      if (lane.note) text(context, fitted(context, lane.note, box.width - 8), box.x + 4, y + 12, { colour: colours.muted });
      if (lane.kind === "curves") this.drawLegend(context, lane, colours);
      y += lane.height;
    }
    this.drawAxis(context, state, colours);
  }

  draw_thumbnails(context, lane, state, colours) {
    const { clip, frames } = this.scene, { width, height, columns } = clip.thumbnails;
    const at = this.place(state), step = at(1) - at(0);
    const stride = Math.max(1, Math.ceil(width / step));
    for (let frame = state.span[0]; frame < Math.min(state.span[1], frames); frame += stride) {
      if (this.thumbnails) context.drawImage(this.thumbnails, (frame % columns) * width, Math.floor(frame / columns) * height,
        width, height, at(frame), lane.box.y, Math.min(width, step * stride - 1), lane.box.height);
    }
  }

  draw_strip(context, lane, state) {
    const colours = this.scene.payload.array(`strip/${lane.modality}`), at = this.place(state);
    for (let frame = state.span[0]; frame < state.span[1]; frame++) {
      context.fillStyle = `rgb(${colours[3 * frame]},${colours[3 * frame + 1]},${colours[3 * frame + 2]})`;
      context.fillRect(at(frame), lane.box.y, at(frame + 1) - at(frame) + 0.4, lane.box.height);
    }
  }

  /** Pixels of a segment in the span. @returns {number[]} left, right */
  segmentEdges(segment, state) {
    const { scene } = this, at = this.place(state), start = scene.seconds[0] ?? 0;
    return [segment.start, segment.end].map((second) => at((second - start) / scene.clip.frame_seconds));
  }

  draw_segments(context, lane, state, colours) {
    for (const segment of this.scene.clip.segments) {
      const [from, to] = this.segmentEdges(segment, state);
      if (to < lane.box.x || from > lane.box.x + lane.box.width) continue;
      const known = segment.kind !== "background", chosen = segment.classes.includes(state.class_);
      context.fillStyle = chosen ? colours.chosen : known ? colours.event : colours.background;
      context.fillRect(from + 0.5, lane.box.y, Math.max(1, to - from - 1), lane.box.height);
      if (!known) continue;
      const left = Math.max(from, lane.box.x) + 4;
      text(context, fitted(context, segment.label || segment.kind, Math.min(to, lane.box.x + lane.box.width) - left - 2), left,
        lane.box.y + lane.box.height / 2 + 4, { colour: colours.ink });
    }
  }

  draw_curves(context, lane, state, colours) {
    const { box } = lane, at = this.place(state);
    const [low, high] = this.rangeOfLane(lane, state);
    const up = (value) => box.y + box.height - ((value - low) / (high - low)) * box.height;
    Object.assign(lane, { low, high });
    context.fillStyle = colours.faint;
    context.globalAlpha = 0.6;
    context.fillRect(box.x, box.y, box.width, box.height);
    context.globalAlpha = 1;
    if (lane.reference !== null && lane.reference <= high && lane.reference >= low) {
      context.strokeStyle = colours.muted;
      context.lineWidth = 0.8;
      context.setLineDash([1, 3]);
      line(context, box.x, up(lane.reference), box.x + box.width, up(lane.reference));
    }
    for (const series of lane.series) {
      context.strokeStyle = series.colour;
      context.lineWidth = 1.4;
      context.setLineDash(series.dashed ? [5, 3] : series.label === "combined" ? [1.5, 1.5] : []);
      this.drawSeries(context, series.values, state, at, up);
    }
    context.setLineDash([]);
  }

  /** A line through the values; broken where there is none, a short dash where one stands alone. */
  drawSeries(context, values, state, at, up) {
    let open = false;
    context.beginPath();
    const [first, last] = [Math.max(0, state.span[0] - 1), Math.min(values.length, state.span[1] + 1)];
    for (let frame = first; frame < last; frame++) {
      if (Number.isNaN(values[frame])) { open = false; continue; }
      const x = at(frame + 0.5), y = up(values[frame]);
      if (open) context.lineTo(x, y);
      else { context.moveTo(x - 1.5, y); context.lineTo(x, y); }
      open = true;
    }
    context.stroke();
  }

  rangeOfLane(lane, state) {
    let low = Infinity, high = -Infinity;
    for (const { values } of lane.series) {
      for (let frame = state.span[0]; frame < state.span[1]; frame++) {
        if (values[frame] < low) low = values[frame];
        if (values[frame] > high) high = values[frame];
      }
    }
    if (low > high) [low, high] = [0, 1];
    if (lane.range) return [lane.range[0], Math.max(high, lane.reference ?? 0) * 1.06 || 1];
    [low, high] = [Math.min(low, lane.reference), Math.max(high, lane.reference)];
    const room = Math.max(0.02, (high - low) * 0.08);
    return [low - room, high + room];
  }

  /** Unit and ends of the axis on the left. */
  drawLegend(context, lane, colours) {
    const ends = { colour: colours.muted, align: "right" };
    text(context, fitted(context, lane.unit, GUTTER.left - 34), 2, lane.y + 29, { colour: colours.muted });
    text(context, told(lane.high, 2), GUTTER.left - 4, lane.box.y + 9, ends);
    text(context, told(lane.low, 2), GUTTER.left - 4, lane.box.y + lane.box.height, ends);
  }

  drawAxis(context, state, colours) {
    const { scene } = this, box = this.box(), at = this.place(state), y = this.height - 5;
    const [from, to] = state.span.map((frame) => scene.edge(frame));
    for (const second of scene.ticks(from, to, Math.floor(box.width / 60))) {
      const x = at((second - (scene.seconds[0] ?? 0)) / scene.clip.frame_seconds);
      text(context, scene.axisClock(second), x, y, { colour: colours.muted, align: "center" });
    }
    if (scene.origin) text(context, `+ from ${clock(scene.origin)}`, 2, y, { colour: colours.muted });
  }

  drawOverlay(context, state, theme) {
    const colours = THEMES[theme], box = this.box(), at = this.place(state);
    if (!this.lanes || !this.scene.frames) return;
    context.save();
    context.beginPath();
    context.rect(box.x, 0, box.width, box.height);
    context.clip();
    this.drawBrush(context, box, colours);
    if (state.pinned) this.drawNeighbourhood(context, state, at, colours);
    const width = Math.max(1.5, at(1) - at(0));
    context.fillStyle = colours.accent;
    context.globalAlpha = state.pinned ? 0.6 : 0.45;
    context.fillRect(at(state.frame + 0.5) - width / 2, 0, width, box.height);
    context.globalAlpha = 1;
    const hovered = state.hover?.key ?? null;
    if (hovered !== null) {
      context.strokeStyle = colours.ink;
      context.lineWidth = 1;
      line(context, at(hovered + 0.5), 0, at(hovered + 0.5), box.height);
    }
    context.restore();
    this.drawValues(context, hovered ?? state.frame, colours);
  }

  drawNeighbourhood(context, state, at, colours) {
    context.fillStyle = colours.outline;
    for (const [from, to] of this.inspector.neighbours(state)) {
      context.globalAlpha = 0.12;
      context.fillRect(at(from), 0, at(to) - at(from), this.height);
      context.globalAlpha = 1;
      context.fillRect(at(from), 0, at(to) - at(from), 2);
    }
  }

  /** At the right, what each curve is at the pointer's frame, or at the cursor's; this is the legend too. */
  drawValues(context, frame, colours) {
    const x = this.width - GUTTER.right + 8;
    for (const lane of this.lanes.filter(({ kind }) => kind === "curves")) {
      const labels = [...new Set(lane.series.map(({ label }) => label))];
      labels.forEach((label, row) => {
        const same = lane.series.filter((series) => series.label === label), y = lane.y + 15 + 15 * row;
        context.strokeStyle = same[0].colour;
        context.lineWidth = 2;
        context.setLineDash(label === "combined" ? [1.5, 1.5] : []);
        line(context, x, y - 4, x + 10, y - 4);
        context.setLineDash([]);
        const values = same.map((series) => told(series.values[frame], same.length > 1 ? 2 : 3)).join(" | ");
        text(context, `${label} ${values}`, x + 14, y, { colour: colours.ink });
      });
    }
  }
}

// ------------------------------------------------------------------------------------------------ saving

/** The part of a 2D context that the panels use, written as SVG: lines and words stay lines and words. */
class SvgContext {
  constructor(width, height) {
    Object.assign(this, { width, height, parts: [], path: "", stack: [], clips: 0, dash: [], shift: [0, 0], open: 0,
      fillStyle: "#000", strokeStyle: "#000", lineWidth: 1, globalAlpha: 1, font: FONT, textAlign: "left", textBaseline: "alphabetic" });
    this.measuring = document.createElement("canvas").getContext("2d");
  }

  measureText(words) { this.measuring.font = this.font; return this.measuring.measureText(words); }
  setLineDash(dash) { this.dash = dash; }
  beginPath() { this.path = ""; }
  moveTo(x, y) { this.path += `M${this.x(x)} ${this.y(y)}`; }
  lineTo(x, y) { this.path += `L${this.x(x)} ${this.y(y)}`; }
  rect(x, y, width, height) { this.path += `M${this.x(x)} ${this.y(y)}h${width}v${height}h${-width}z`; }
  translate(x, y) { this.shift = [this.shift[0] + x, this.shift[1] + y]; }
  x(value) { return +(value + this.shift[0]).toFixed(2); }
  y(value) { return +(value + this.shift[1]).toFixed(2); }

  save() { this.stack.push({ shift: this.shift, open: this.open }); }

  restore() {
    const { shift, open } = this.stack.pop();
    for (; this.open > open; this.open--) this.parts.push("</g>");
    this.shift = shift;
  }

  clip() {
    const id = `clip${this.clips++}`;
    this.parts.push(`<clipPath id="${id}"><path d="${this.path}"/></clipPath><g clip-path="url(#${id})">`);
    this.open++;
  }

  stroke() {
    const dash = this.dash.length ? ` stroke-dasharray="${this.dash.join(" ")}"` : "";
    this.parts.push(`<path d="${this.path}" fill="none" stroke="${this.strokeStyle}" stroke-width="${this.lineWidth}"${dash}${this.alpha()}/>`);
  }

  strokeRect(x, y, width, height) { this.beginPath(); this.rect(x, y, width, height); this.stroke(); }

  fillRect(x, y, width, height) {
    this.parts.push(`<rect x="${this.x(x)}" y="${this.y(y)}" width="${+width.toFixed(2)}" height="${+height.toFixed(2)}" fill="${this.fillStyle}"${this.alpha()}/>`);
  }

  fillText(words, x, y) {
    const anchor = { left: "start", center: "middle", right: "end" }[this.textAlign];
    const weight = this.font.startsWith("600") ? ' font-weight="600"' : "";
    const drop = this.textBaseline === "middle" ? 4 : 0;
    this.parts.push(`<text x="${this.x(x)}" y="${this.y(y + drop)}" text-anchor="${anchor}" fill="${this.fillStyle}"${weight}>${escaped(words)}</text>`);
  }

  drawImage(image, left, top, width, height, x, y, shownWidth, shownHeight) {
    const part = document.createElement("canvas");
    Object.assign(part, { width: Math.max(1, width), height: Math.max(1, height) });
    part.getContext("2d").drawImage(image, left, top, width, height, 0, 0, part.width, part.height);
    this.parts.push(`<image x="${this.x(x)}" y="${this.y(y)}" width="${shownWidth}" height="${shownHeight}" preserveAspectRatio="none"`
      + ` style="image-rendering:${this.imageSmoothingEnabled ? "auto" : "pixelated"}" href="${part.toDataURL()}"/>`);
  }

  alpha() { return this.globalAlpha < 1 ? ` opacity="${this.globalAlpha}"` : ""; }

  toString() {
    return `<svg xmlns="http://www.w3.org/2000/svg" width="${this.width}" height="${this.height}" `
      + `viewBox="0 0 ${this.width} ${this.height}" font-family="system-ui, 'DejaVu Sans', sans-serif" font-size="11">`
      + `${this.parts.join("\n")}</svg>\n`;
  }
}

function escaped(words) {
  return String(words).replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
}

function download(blob, name) {
  const link = create("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// ------------------------------------------------------------------------------------------------ controls

/** An element with attributes (functions become listeners) and children; words are text, never markup. */
function create(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** One of a few: a row of buttons. `options` gives [value, words, hint] for a state. */
class Choice {
  constructor(inspector, name, label, options) {
    Object.assign(this, { inspector, name, options, made: "" });
    this.group = create("div", { class: "choice", role: "radiogroup", "aria-label": label });
    this.element = create("div", { class: "control" }, create("span", { class: "label", "aria-hidden": "true" }, label), this.group);
  }

  update(state) {
    const options = this.options(state);
    this.element.hidden = options.length < 2;
    const made = JSON.stringify(options);
    if (made !== this.made) {
      this.made = made;
      this.group.replaceChildren(...options.map(([value, words, hint]) => create("button", {
        type: "button", role: "radio", "data-value": value, title: hint,
        "aria-label": hint ?? words, click: () => this.inspector.set({ [this.name]: value }),
      }, words)));
    }
    for (const button of this.group.children) {
      button.setAttribute("aria-checked", String(button.dataset.value === String(state[this.name])));
    }
  }
}

/** One of many: a list that opens. */
class List {
  constructor(inspector, name, label, options) {
    Object.assign(this, { name, options, made: "" });
    this.select = create("select", { "aria-label": label, change: () => {
      const value = this.select.value;
      inspector.set({ [name]: name === "class_" ? Number(value) : value });
    } });
    this.element = create("label", { class: "control" }, create("span", { class: "label" }, label), this.select);
  }

  update(state) {
    const options = this.options(state);
    this.element.hidden = options.length < 2;
    const made = JSON.stringify(options);
    if (made !== this.made) {
      this.made = made;
      this.select.replaceChildren(...options.map(([value, words]) => create("option", { value }, words)));
    }
    this.select.value = String(state[this.name]);
  }
}

/** A word of a command line: quoted, so that a shell leaves it as it is. */
function shellQuoted(word) {
  return /["$`\\!]/.test(word) ? `'${word.replace(/'/g, "'\\''")}'` : `"${word}"`;
}

const KEYS = "← → frame (Shift: 10) · ↑ ↓ head · space plays · Enter pins · drag zooms, double-click or Esc resets · "
  + "+ − zoom · M modality · B branch · A all heads · S scale · D difference";

/** Everything above and below the panels. */
class Controls {
  constructor(inspector) {
    this.inspector = inspector;
    const { scene } = inspector;
    const same = (values) => values.map((value) => [value, value]);
    const models = scene.models.map((model) => [model.name, model.label]);
    this.parts = [
      new List(inspector, "model", "model", () => models),
      new List(inspector, "against", "against", (state) => (models.length < 2 ? []
        : [["", "none"], ...models.filter(([name]) => name !== state.model)])),
      new Choice(inspector, "view", "compare", (state) => (state.against
        ? [["side", "side by side"], ["difference", "difference"]] : [])),
      new Choice(inspector, "modality", "modality", (state) => same(scene.models[scene.index(state.model)].modalities)),
      new Choice(inspector, "branch", "branch", (state) => same(scene.branches(state.model, state.modality))),
      new Choice(inspector, "head", "head", (state) => this.heads(state)),
      new Choice(inspector, "scale", "scale", (state) => (scene.heads(state.model, state.modality, state.branch).length
        ? Object.entries(SCALES) : [])),
      new Choice(inspector, "left", "beside", (state) => same(scene.lefts(state))),
      new List(inspector, "explanation", "explanation", (state) => same(scene.explanations(state.model))),
      new List(inspector, "class_", "class", () => [[-1, "none"],
        ...scene.clip.classes.map(({ label, name, true: there }) => [label, `${there ? "✓ " : ""}${name}`])]),
    ];
    this.makeHead();
    this.makeFoot();
  }

  heads(state) {
    const heads = this.inspector.scene.heads(state.model, state.modality, state.branch);
    if (heads.length < 2) return heads.map((head) => [head, `${head + 1}`]);
    return [...heads.map((head) => [head, `${head + 1}`, `head ${head + 1}`]), [-1, "all", "all heads"]];
  }

  makeHead() {
    const { inspector } = this, { clip } = inspector.scene;
    const button = (words, label, click) => create("button", { type: "button", title: label, "aria-label": label, click }, words);
    this.play = button("▶", "Play (space)", () => inspector.play());
    this.themeButton = button("◐", "Light or dark", () => inspector.set({ theme: inspector.theme() === "dark" ? "light" : "dark" }));
    this.link = create("a", { target: "_blank", rel: "noopener noreferrer", class: "link" });
    this.link.hidden = !clip.url;
    const { scene } = inspector, from = scene.origin ? ` from ${clock(scene.origin)}` : "";
    const seconds = `${clock(scene.end() - (scene.seconds[0] ?? 0))}${from}`;
    const cut = clip.clip_frames > clip.frames ? `, the first ${clip.frames} of ${clip.clip_frames} frames` : "";
    this.title = create("div", { class: "title" }, create("strong", {}, clip.id || "clip"),
      create("span", { class: "labels" }, ` ${seconds}${cut} · ${clip.labels.length ? `labels: ${clip.labels.join(", ")}` : "no labels"}`));
    const tools = create("div", { class: "tools", role: "group", "aria-label": "Save and settings" }, this.link,
      button("PNG", "Save this view as PNG", () => inspector.savePng()),
      button("SVG", "Save this view as SVG", () => inspector.saveSvg()),
      button("Python", "Copy Python that reproduces this view", () => this.copy()), this.themeButton);
    this.head = create("header", {}, create("div", { class: "row" }, this.title, tools),
      create("div", { class: "row controls", role: "toolbar", "aria-label": "What is shown" }, ...this.parts.map((part) => part.element)));
  }

  makeFoot() {
    const { inspector } = this, { scene } = inspector;
    this.slider = create("input", { type: "range", min: 0, max: Math.max(0, scene.frames - 1), step: 1, "aria-label": "Frame",
      input: () => inspector.set({ frame: Number(this.slider.value) }) });
    this.readout = create("output", { class: "readout", role: "status", "aria-live": "polite" });
    const precision = scene.payload.header.precision === "float32" ? "weights exactly as in the record (float32)"
      : "weights to 11 bits, about 3 digits (float16)";
    this.ask = create("div", { class: "ask", role: "status" });
    this.code = create("textarea", { class: "code", readonly: true, rows: 9, "aria-label": "Python that reproduces this view" });
    this.code.hidden = true;
    this.foot = create("footer", {}, this.ask, create("div", { class: "row" }, this.play, this.slider, this.readout), this.code,
      create("div", { class: "hint" }, `${KEYS} · ${precision}`));
  }

  update(state) {
    const { scene } = this.inspector;
    this.parts.forEach((part) => part.update(state));
    this.slider.value = String(state.frame);
    this.slider.setAttribute("aria-valuetext", scene.clock(state.frame));
    this.play.textContent = state.playing ? "❚❚" : "▶";
    this.askForClass(state);
    if (scene.clip.url) {
      this.link.href = scene.address(state.frame);
      this.link.textContent = `video at ${scene.clock(state.frame)} ↗`;
    }
  }

  /** Where the class that is chosen is not the one explained: what explains it. */
  askForClass(state) {
    const { scene } = this.inspector, name = scene.classes.get(state.class_)?.name;
    const models = scene.shown(state).map((index) => scene.models[index]);
    const other = models.find(({ explained, classes }) => explained && explained !== name && classes.includes(state.class_));
    this.ask.hidden = !other;
    if (!other) return;
    const code = (words) => create("code", {}, words);
    const command = scene.clip.argument && `gmsa inspect ${scene.clip.argument} --model ${models[0].argument}`
      + `${models[1] ? ` --against ${models[1].argument}` : ""} --explain --target ${shellQuoted(name)}`;
    const python = `inspect_clip(model, clip, parts=[*DEFAULT_PARTS, "explanation"], target=model.vocabulary.find(${JSON.stringify(name)}))`;
    this.ask.replaceChildren(`This record explains ${other.explained}. To explain ${name}: `,
      ...(command ? [code(command), " or in Python "] : []), code(python));
  }

  /** Copy, and show, so that it can be had where a page may not write to the clipboard. */
  async copy() {
    this.code.value = this.inspector.python();
    this.code.hidden = !this.code.hidden;
    if (this.code.hidden) return;
    this.code.focus();
    this.code.select();
    try { await navigator.clipboard.writeText(this.code.value); } catch { this.code.select(); }
  }
}

// ------------------------------------------------------------------------------------------------ the inspector

class Inspector {
  /**
   * @param {HTMLElement} root an empty element @param {Payload} payload @param {Partial<State>} initial
   * @param {(state: State) => void} notify called after every change that is not the pointer's
   */
  constructor(root, payload, initial = {}, notify = () => {}) {
    const began = performance.now();
    Object.assign(this, { root, notify, scene: new Scene(payload), pending: 0, undo: [] });
    this.state = this.scene.valid({ ...START, span: [0, payload.header.clip.frames], ...initial });
    root.classList.add("gmsa-inspector");
    root.replaceChildren();
    Object.assign(root, { tabIndex: 0, inspector: this });
    for (const [name, value] of [["role", "application"], ["aria-label", `Inspector of ${this.scene.clip.id}. ${KEYS}`],
      ["data-lm-suppress-shortcuts", "true"]]) root.setAttribute(name, value);
    this.controls = new Controls(this);
    this.makePanels();
    root.append(this.controls.head, this.maps, ...this.lanes ? [this.lanes.element] : [], this.controls.foot);
    this.watch();
    this.layout();
    this.paint();
    afterPaint().then(() => { this.openedAt = performance.now(); this.firstPaint = this.openedAt - began; });
  }

  makePanels() {
    const { scene } = this;
    this.maps = create("div", { class: "maps" });
    if (!scene.frames) {
      this.panels = [];
      this.maps.append(create("p", { class: "empty", role: "status" }, "This record has no frames: there is nothing to draw."));
      return;
    }
    this.left = new MapPanel(this, "left", "How alike the frames are: query by key", (state) => {
      const map = scene.leftMap(state);
      return { maps: map ? [map] : [], share: map ? [map] : [], title: map ? `${state.modality} · ${map.title}` : "", empty: "not in the record" };
    });
    this.first = new MapPanel(this, "first", "Attention weights: query by key", (state) => this.attention(state, 0));
    this.second = new MapPanel(this, "second", "Attention weights of the second model: query by key", (state) => this.attention(state, 1));
    this.predictions = new PredictionPanel(this, "predictions", "Predictions");
    this.lanes = new LanePanel(this);
    this.panels = [this.left, this.first, this.second, this.predictions, this.lanes];
    this.maps.append(...this.panels.slice(0, 4).map((panel) => panel.element));
  }

  /** What the attention panels show. @param {number} order 0 or 1: the first or the second model */
  attention(state, order) {
    const { scene } = this, shown = scene.shown(state), difference = state.against && state.view === "difference";
    const heads = state.head < 0 ? scene.heads(state.model, state.modality, state.branch) : [state.head];
    const of = (index, head) => (difference ? scene.difference(shown[0], shown[1], state.modality, state.branch, head)
      : scene.attention(index, state.modality, state.branch, head));
    const maps = heads.map((head) => of(shown[order], head)).filter(Boolean);
    const share = difference || heads.length > 1 ? maps : shown.map((index) => of(index, heads[0])).filter(Boolean);
    const like = scene.models[shown[order]]?.patterns[`${state.modality}/${maps[0]?.branch}/${state.head}`];
    const which = state.head < 0 ? "all heads" : `head ${state.head + 1}${like && !difference ? ` · ${like}` : ""}`;
    const model = scene.models[shown[order]];
    const title = difference ? shown.map((index) => scene.models[index].label).join(" − ") : model?.label ?? "";
    return { maps, share, title: maps.length ? `${maps[0].title} · ${which}` : title,
      empty: maps.length ? "" : this.whyEmpty(state, difference ? shown : shown.slice(order, order + 1)) };
  }

  /** Why there is no map of models: one has no attention, they have different branches, or a branch lacks the head. */
  whyEmpty(state, indices) {
    const { scene } = this, label = (index) => scene.models[index].label;
    const bare = indices.find((index) => !scene.models[index].branches.length);
    if (bare !== undefined) return indices.length > 1 ? `${label(bare)} has no attention` : "a model without attention";
    const branches = indices.map((index) => scene.branchOf(index, state.branch));
    if (new Set(branches).size > 1) return `no difference of ${branches.join(" and ")}: they are different branches`;
    const lacks = indices.find((index) => !scene.attention(index, state.modality, state.branch, state.head)) ?? indices[0];
    return `${indices.length > 1 ? `${label(lacks)}: ` : ""}no head ${state.head + 1} of the ${branches[0]} branch`;
  }

  /** Take the second part of the payload. @param {ArrayBuffer} rest */
  complete(rest) {
    this.scene.payload.rest = rest;
    this.panels.forEach((panel) => { panel.drawn = ""; });
    this.shape = "";
    this.schedule();
  }

  /** Change the state; what does not exist in the payload becomes what does. */
  set(change) {
    const before = this.state;
    this.state = this.scene.valid({ ...before, ...change });
    this.schedule();
    if (TRAITS.some((name) => JSON.stringify(before[name]) !== JSON.stringify(this.state[name]))) this.notify(this.state);
  }

  schedule() {
    this.pending ||= requestAnimationFrame(() => { this.pending = 0; this.frameBegan = performance.now(); this.paint(); });
  }

  paint() {
    const { state } = this, theme = this.theme();
    if (theme !== this.painted) {
      this.painted = theme;
      for (const [name, colour] of Object.entries(THEMES[theme])) this.root.style.setProperty(`--${name}`, colour);
      this.root.style.colorScheme = theme;
    }
    const shape = [state.model, state.against, state.view, state.head < 0, state.pinned, state.modality].join("|");
    if (shape !== this.shape) { this.shape = shape; this.layout(); }
    this.panels.filter((panel) => panel.width).forEach((panel) => panel.paint(state, theme));
    const { hover, ...chosen } = state, made = JSON.stringify(chosen);
    if (made !== this.controlled) { this.controlled = made; this.controls.update(state); }
    this.controls.readout.textContent = this.readout();
  }

  /** Sizes of all panels from the width there is. */
  layout() {
    const width = Math.floor(this.root.clientWidth) - 24;
    if (!this.panels.length || width < 100) return;
    const { state, scene } = this, ratio = window.devicePixelRatio || 1;
    const two = Boolean(state.against) && state.view === "side", all = state.head < 0;
    const scores = scene.payload.has(`${scene.index(state.model)}/score`) && width >= 640 ? 236 : 0;
    const crowded = two && width < 980; // then two large maps say more than three small ones
    const shows = [Boolean(scene.leftMap(state)) && !crowded, scene.models.some((model) => model.branches.length), two];
    const count = Math.max(1, shows.filter(Boolean).length), gap = 10;
    const size = Math.max(170, Math.min(392, Math.floor((width - scores - gap * count) / count)));
    const height = size - EDGE.left - EDGE.right + EDGE.top + EDGE.bottom;
    const others = (shows[0] ? size + gap : 0) + scores + gap;
    const wide = all ? Math.floor((width - others - (two ? gap : 0)) / (two ? 2 : 1)) : size;
    [this.left, this.first, this.second].forEach((panel, index) => {
      panel.element.hidden = !shows[index];
      if (!shows[index]) { panel.resize(0, height, ratio); return; }
      const heads = all && index ? panel.source(state).maps.length : 1;
      panel.resize(heads > 1 ? panel.widthFor(heads, Math.max(size, wide), height) : size, height, ratio);
    });
    const used = shows.reduce((sum, there, index) => sum + (there ? [this.left, this.first, this.second][index].width + gap : 0), 0);
    this.predictions.resize(scores ? Math.min(420, Math.max(scores, width - used)) : width, height, ratio);
    this.lanes.resize(width, this.lanes.wanted(state), ratio);
  }

  /** "light" or "dark": as chosen, else as the notebook or the system is. */
  theme() {
    if (this.state.theme !== "auto") return this.state.theme;
    const lab = document.body?.dataset.jpThemeLight;
    if (lab !== undefined) return lab === "false" ? "dark" : "light";
    return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  }

  watch() {
    const sizes = new ResizeObserver(() => { this.shape = ""; this.schedule(); });
    sizes.observe(this.root);
    const themes = new MutationObserver(() => this.schedule());
    if (document.body) themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
    const system = matchMedia("(prefers-color-scheme: dark)"), changed = () => this.schedule();
    system.addEventListener("change", changed);
    const pressed = (event) => this.keydown(event); // the root outlives this inspector when the payload changes
    this.root.addEventListener("keydown", pressed);
    this.undo.push(() => this.root.removeEventListener("keydown", pressed),
      () => sizes.disconnect(), () => themes.disconnect(), () => system.removeEventListener("change", changed),
      () => this.stop(), () => cancelAnimationFrame(this.pending));
  }

  destroy() { this.undo.forEach((undo) => undo()); }

  // -- what the keys do

  keydown(event) {
    const field = event.target.closest?.("select, textarea, input");
    if (event.ctrlKey || event.metaKey || event.altKey || field) return;
    if ([" ", "Enter"].includes(event.key) && event.target !== this.root) return;
    const action = this.actions(event.shiftKey ? 10 : 1)[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }

  actions(step) {
    const { state, scene } = this, next = (values, value) => values[(values.indexOf(value) + 1) % values.length];
    const model = scene.models[scene.index(state.model)];
    return {
      ArrowLeft: () => this.step(-step), ArrowRight: () => this.step(step),
      ArrowUp: () => this.turn(-1), ArrowDown: () => this.turn(1),
      Home: () => this.set({ frame: state.span[0] }), End: () => this.set({ frame: state.span[1] - 1 }),
      " ": () => this.play(), Enter: () => this.set({ pinned: !state.pinned }), p: () => this.set({ pinned: !state.pinned }),
      Escape: () => this.set({ pinned: false, span: [0, scene.frames] }),
      "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2),
      m: () => this.set({ modality: next(model.modalities, state.modality) }),
      b: () => this.set({ branch: next(scene.branches(state.model, state.modality), state.branch) }),
      s: () => this.set({ scale: next(Object.keys(SCALES), state.scale) }),
      a: () => this.set({ head: state.head < 0 ? state.lastHead : -1 }),
      d: () => this.set({ view: next(["side", "difference"], state.view) }),
    };
  }

  /** Move the cursor; a zoomed span follows it. */
  step(by) {
    const { state, scene } = this, frame = Math.min(Math.max(state.frame + by, 0), Math.max(0, scene.frames - 1));
    const [first, last] = state.span;
    const shift = frame < first ? frame - first : frame >= last ? frame - last + 1 : 0;
    this.set({ frame, span: [first + shift, last + shift] });
  }

  /** The next head, or the one before; among all heads, the next to be marked. */
  turn(by) {
    const { state, scene } = this, heads = scene.heads(state.model, state.modality, state.branch);
    if (!heads.length) return;
    const head = heads[(heads.indexOf(state.lastHead) + by + heads.length) % heads.length];
    this.set(state.head < 0 ? { lastHead: head } : { head });
  }

  zoom(factor) {
    const { state, scene } = this, [first, last] = state.span;
    const width = Math.min(scene.frames, Math.max(4, Math.round((last - first) * factor)));
    const start = Math.min(Math.max(0, Math.round(state.frame - width / 2)), scene.frames - width);
    this.set({ span: [start, start + width] });
  }

  /** Ten frames a second; again to stop. */
  play() {
    if (this.state.playing) { this.stop(); return; }
    this.set({ playing: true });
    this.timer = setInterval(() => {
      const { frame, span } = this.state;
      this.set({ frame: frame + 1 < span[1] ? frame + 1 : span[0] });
    }, 100);
  }

  stop() {
    clearInterval(this.timer);
    this.set({ playing: false });
  }

  // -- what is told

  /** Runs of frames in N_i of the cursor's frame: [first, after the last]. Everything where no model has a neighbourhood. */
  neighbours(state) {
    const { scene } = this, { frames } = scene;
    const index = scene.shown(state).find((each) => scene.payload.has(`${each}/neighbourhood`));
    if (index === undefined) return [];
    const mask = scene.payload.array(`${index}/neighbourhood`), runs = [];
    for (let key = 0; key < frames; key++) {
      if (!mask[state.frame * frames + key]) continue;
      if (runs.length && runs.at(-1)[1] === key) runs.at(-1)[1] = key + 1;
      else runs.push([key, key + 1]);
    }
    return runs;
  }

  readout() {
    const { state, scene } = this, { hover } = state;
    if (!scene.frames) return "no frames";
    const named = (frame) => `${scene.clock(frame)} (frame ${frame})`;
    if (!hover || hover.query === null) {
      const frame = hover?.key ?? state.frame;
      const segment = scene.clip.segments.find(({ start, end, kind }) =>
        kind !== "background" && scene.seconds[frame] >= start && scene.seconds[frame] < end);
      return `${named(frame)}${segment ? ` · ${segment.label || segment.kind}` : ""}${state.pinned ? ` · pinned ${scene.clock(state.frame)}` : ""}`;
    }
    const panel = this[hover.panel], map = panel?.maps?.[hover.map];
    if (!map) return "";
    const at = hover.query * scene.frames + hover.key;
    const outside = map.mask && !map.mask[at];
    const value = outside ? "outside the neighbourhood" : `${map.unit} ${told(map.values[at], scene.payload.header.precision === "float32" ? 6 : 4)}`;
    const head = map.head === undefined ? "" : ` · head ${map.head + 1}`;
    const times = map.kind === "weights" && map.unit === "attention weight" && !outside
      ? ` = ${told(map.values[at] * (map.mask ? count(map.mask, hover.query, scene.frames) : scene.frames), 3)} × uniform` : "";
    return `query ${named(hover.query)} → key ${named(hover.key)}${head} · ${value}${times}`;
  }

  // -- saving

  /** The whole view on one context: title, maps, predictions, lanes. */
  drawAll(context, theme) {
    const { scene, state } = this, origin = this.root.getBoundingClientRect(), colours = THEMES[theme];
    const size = this.viewSize();
    context.fillStyle = colours.page;
    context.fillRect(0, 0, size.width, size.height);
    const title = `${scene.clip.id} · ${scene.clock(state.frame)} · ${scene.clip.labels.join(", ")}`;
    text(context, fitted(context, title, size.width - 24, BOLD), 12, 18, { colour: colours.ink, font: BOLD });
    for (const panel of this.panels.filter(({ width, element }) => width && !element.hidden)) {
      const box = panel.element.getBoundingClientRect();
      context.save();
      context.translate(box.left - origin.left, box.top - origin.top - size.top);
      panel.draw(context, state, theme);
      panel.drawOverlay(context, state, theme);
      context.restore();
    }
  }

  viewSize() {
    const origin = this.root.getBoundingClientRect();
    const maps = this.maps.getBoundingClientRect(), lanes = (this.lanes?.element ?? this.maps).getBoundingClientRect();
    const top = maps.top - origin.top - 28;
    return { top, width: Math.round(origin.width), height: Math.round(lanes.bottom - origin.top - top + 8) };
  }

  fileName(suffix) {
    const { state, scene } = this;
    return [scene.clip.id, state.model, state.against, state.modality, state.branch].filter(Boolean).join("-")
      .replace(/[^\w.-]+/g, "-") + suffix;
  }

  savePng() {
    const { width, height } = this.viewSize(), canvas = document.createElement("canvas");
    Object.assign(canvas, { width: 2 * width, height: 2 * height });
    const context = canvas.getContext("2d");
    context.scale(2, 2);
    this.drawAll(context, this.theme());
    canvas.toBlob((blob) => download(blob, this.fileName(".png")), "image/png");
  }

  saveSvg() {
    const { width, height } = this.viewSize(), context = new SvgContext(width, height);
    this.drawAll(context, this.theme());
    download(new Blob([context.toString()], { type: "image/svg+xml" }), this.fileName(".svg"));
  }

  /** Python that shows the same view again. JSON texts and numbers are Python's too. */
  python() {
    const { state, scene } = this, { clip } = scene;
    const names = scene.shown(state).map((index) => scene.models[index].name);
    const view = TRAITS.filter((name) => JSON.stringify(state[name]) !== JSON.stringify(START[name]) && name !== "theme")
      .map((name) => `${name}=${name === "span" ? `(${state.span.join(", ")})` : pythonValue(state[name])}`);
    const explained = scene.shown(state).some((index) => scene.explanations(scene.models[index].name).length);
    const parts = explained ? ", parts=[*DEFAULT_PARTS, \"explanation\"]" : "";
    return [
      "import gmsa_models", `from analysis import ${explained ? "DEFAULT_PARTS, " : ""}inspect_clip`, "from figures.inspector import Inspector", "",
      `clip = next(iter(gmsa_models.read_clips(${JSON.stringify(clip.read)})))`,
      `records = [inspect_clip(gmsa_models.load(name), clip${parts}) for name in ${JSON.stringify(names)}]`,
      `inspector = Inspector(records, ${view.join(", ")})`, "inspector  # or inspector.figure(), inspector.to_html(\"view.html\")", "",
    ].join("\n");
  }

  // -- measuring

  /**
   * Time from an input event to the painted frame: a key press in an idle page, its drawing, and the task that follows
   * the frame's painting. Steps do not fall on the screen's beat, so waiting for the next frame is in `times`; `work` is
   * what is left without that wait: handling the event, drawing, painting.
   * @param {string[]} keys pressed in turn @param {number} steps
   * @returns {Promise<{p50: number, p95: number, longest: number, times: number[], work: number[]}>} milliseconds
   */
  async measure(keys, steps = 200) {
    const times = [], work = [];
    for (let step = 0; step < steps; step++) {
      await new Promise((done) => setTimeout(done, 25 + ((step * 7) % 23)));
      const began = performance.now();
      this.root.dispatchEvent(new KeyboardEvent("keydown", { key: keys[step % keys.length], bubbles: true, cancelable: true }));
      const handled = performance.now();
      await afterPaint();
      const ended = performance.now();
      times.push(ended - began);
      work.push(handled - began + ended - this.frameBegan);
    }
    const rising = [...times].sort((one, other) => one - other), at = (share) => rising[Math.min(steps - 1, Math.ceil(share * steps) - 1)];
    return { p50: at(0.5), p95: at(0.95), longest: rising.at(-1), times, work };
  }
}

function pythonValue(value) {
  return typeof value === "boolean" ? (value ? "True" : "False") : JSON.stringify(value);
}

/** Entries of one row of a mask. */
function count(mask, row, frames) {
  let sum = 0;
  for (let key = 0; key < frames; key++) sum += mask[row * frames + key] ? 1 : 0;
  return sum;
}

/** Resolves in the task after the next frame was painted. */
function afterPaint() {
  return new Promise((done) => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => { channel.port1.close(); done(); };
    channel.port2.postMessage(0);
  }));
}

// ------------------------------------------------------------------------------------------------ mounting

/** In a page of its own: base64 of the deflated payload. @param {HTMLElement} root @param {string} encoded */
async function mountPage(root, encoded, initial) {
  const letters = atob(encoded.trim()), bytes = new Uint8Array(letters.length);
  for (let index = 0; index < letters.length; index++) bytes[index] = letters.charCodeAt(index);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Inspector(root, new Payload(await new Response(stream).arrayBuffer()), initial);
}

const BETWEEN_MESSAGES = 200; // milliseconds: a message to the kernel costs the page more than drawing

/** As a widget: traits go both ways. */
function render({ model, el }) {
  let inspector = null, sending = 0;
  const root = create("div");
  el.append(root);
  const read = () => Object.fromEntries(TRAITS.map((name) => [name, model.get(name)]));
  const write = (state) => {
    for (const name of TRAITS) if (JSON.stringify(model.get(name)) !== JSON.stringify(state[name])) model.set(name, state[name]);
    sending ||= setTimeout(send, BETWEEN_MESSAGES);
  };
  const send = () => {
    clearTimeout(sending);
    sending = 0;
    model.save_changes();
  };
  const bytes = (name) => {
    const { buffer, byteOffset, byteLength } = model.get(name);
    return byteLength ? buffer.slice(byteOffset, byteOffset + byteLength) : null;
  };
  const mount = () => {
    inspector?.destroy();
    inspector = new Inspector(root, new Payload(bytes("payload"), bytes("rest")), read(), write);
    write(inspector.state);
  };
  const complete = () => inspector.complete(bytes("rest"));
  const follow = () => inspector.set(read());
  mount();
  root.addEventListener("focusout", () => sending && send()); // a cell that is run next knows what was chosen
  model.on("change:payload", mount);
  model.on("change:rest", complete);
  TRAITS.forEach((name) => model.on(`change:${name}`, follow));
  return () => {
    model.off("change:payload", mount);
    model.off("change:rest", complete);
    TRAITS.forEach((name) => model.off(`change:${name}`, follow));
    inspector.destroy();
    if (sending) send();
  };
}

export { Inspector, Payload, mountPage };
export default { render };
