/** What is shown (the state), and what the payload holds for it (the scene). */

import { Recent } from "./payload.js";
import { clock, ticks } from "./words.js";
import { SCALES, topOf, pictureOf } from "./colours.js";
import { lineKeys } from "./vertical_lines.js";

/**
 * What is shown; those in `TRAITS` are the widget's traits.
 * @typedef {{frame: number, modality: string, layer: number, branch: string, head: number, model: string, against: string,
 *   view: "side"|"difference", scale: string, class_: number, span: number[], pinned: boolean, theme: string,
 *   left: "similarity"|"gradient"|"gate", explanation: string, hover: ?{query: ?number, key: ?number}, playing: boolean, lastHead: number,
 *   selection: ?Selection, pass: "edited"|"change"|"unedited"}} State
 *   head -1 = all; lastHead = the head that was chosen last, marked among all; class_ -1 = none; span = [first frame, frame after the last]; hover is the pointer's place;
 *   pass = which one is shown where some edits were answered
 */
export const START = {
  frame: 0, modality: "", layer: 0, branch: "", head: 0, model: "", against: "", view: "side", scale: "linear", class_: -1,
  span: [0, 0], pinned: false, theme: "auto", left: "similarity", explanation: "", hover: null, playing: false, lastHead: 0,
  selection: null, pass: "edited",
};

export const TRAITS = ["frame", "modality", "layer", "branch", "head", "model", "against", "view", "scale", "class_", "span",
  "pinned", "theme", "left", "explanation"];

/** Maps that can stand beside the attention maps: kind, title, unit. */
const LEFTS = {
  similarity: ["similarity", "similarity of features", "cosine"],
  gradient: ["weights", "gradient norm of output by input", "gradient norm"],
  gate: ["similarity", "gate of the local branch, mean over heads", "R of the local branch"],
};

/** Dimensions of a lane of which one label is shown at a time, and what of the state says which. */
const CHOSEN = { layer: "layer", modality: "modality", explainer: "explanation", head: "lastHead" };

// Seconds. Axes of a clip that begins later count from its start: the minutes of a longer time do not fit beside a map.
const LONGEST_CLOCK = 60000;

/** What one payload holds, asked for by what the state says. */
export class Scene {
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
    Object.assign(this, { answered: null, edited: null }); // the edited pass that was answered, and the one that is shown
    this.room = false; // whether the page is wide enough for a third model
    this.unedited = null; // passes without edits, where there are engines
    this.explained = new Map(); // lines of explanations of the chosen class, where an engine made them
  }

  /** Values of the pass that is shown: of the edited one what was recomputed. */
  array(name) { return this.edited?.array(name) ?? this.recorded(name); }

  /** Whether an array can be drawn now. */
  here(name) { return this.edited?.has(name) || (!this.awaits(name) && this.hereRecorded(name)); }

  /** Values of the pass without edits: of the record, or of the engine where the file leaves them to it. */
  recorded(name) { return this.payload.array(name) ?? this.ofEngine(name)?.array(name) ?? null; }

  hereRecorded(name) { return this.payload.here(name) || Boolean(this.ofEngine(name)?.has(name)); }

  /** Whether an array has no numbers in the file, as the page's engine gives them. */
  leftToEngine(name) { return this.payload.about(name)?.type === "engine"; }

  /** What the engine of the model that an array is of made without edits. @returns {?EditedPass} */
  ofEngine(name) { return this.unedited?.of(this.models[parseInt(name, 10)]?.name) ?? null; }

  /** Whether a map of the model that was edited is still asked for. */
  awaits(name) { return Boolean(this.edited?.lacks(name)) && this.models[parseInt(name, 10)]?.name === this.edited.model; }

  /** A name that tells the values of one pass from those of another. */
  passName(name, pass = this.edited) { return pass?.has(name) ? `${name} of edited pass ${pass.number}` : name; }

  /** The same map of the pass that is not shown, where one is edited: the two share their colours. @returns {?FrameMap} */
  counterpart({ name }) {
    const { edited, answered } = this, scene = this;
    if (!answered?.has(name)) return null;
    return edited ? { key: name, here: this.hereRecorded(name), get values() { return scene.recorded(name); } }
      : { key: this.passName(name, answered), here: true, get values() { return answered.array(name); } };
  }

  /** Probabilities of the classes of a model, and those without edits where its pass is edited. */
  scores(index) {
    const scores = this.payload.array(`${index}/score`);
    return this.isEdited(index) ? { scores: this.edited.answer.probabilities, before: scores } : { scores, before: null };
  }

  /** Which pass is shown, for keys of pictures. */
  get passKey() { return this.edited ? `${this.edited.number}` : ""; }

  /** Whether a model's pass is edited. */
  isEdited(index) { return Boolean(this.edited) && this.models[index]?.name === this.edited.model; }

  /** What stands beside values of a model whose pass is edited, where these were not recomputed. */
  ofUnedited(index, ...names) { return this.isEdited(index) && !names.some((name) => this.edited.has(name)) ? "of the unedited model" : ""; }

  /** Names of a model's maps that are shown. */
  shownMaps(state, index = this.index(state.model)) {
    const { modality } = state;
    const heads = state.head < 0 ? this.heads(state.model, modality, state.branch) : [state.head];
    const maps = [...heads, state.lastHead].map((head) => `${index}/attention/${modality}/${this.branchOf(index, state.branch)}/${head}`);
    return [...new Set([...maps, this.leftName(state.left, index, modality)])].filter((name) => this.payload.has(name) && /^\d/.test(name));
  }

  /** Of the payload's models, one a model and layer: the one of the layer that is shown, else the first of that name. */
  index(name) {
    const exact = this.models.findIndex((model) => model.name === name && model.layer === this.layer);
    return exact >= 0 ? exact : this.models.findIndex((model) => model.name === name);
  }

  /** Layers of a model that the payload holds. */
  layers(name) { return this.models.filter((model) => model.name === name).map((model) => model.layer); }

  /** Heads that a model's branch has, from 0. */
  heads(name, modality, branch) {
    const index = this.index(name);
    return index < 0 ? [] : Array.from({ length: this.models[index].heads }, (_, head) => head)
      .filter((head) => this.payload.has(`${index}/attention/${modality}/${branch}/${head}`));
  }

  branches(name, modality) {
    return (this.models[this.index(name)]?.branches ?? []).filter((each) => this.heads(name, modality, each).length);
  }

  /** Models shown, the first one first; beside two a third where there is room. */
  shown(state) { return [state.model, state.against, this.third(state)].filter(Boolean).map((name) => this.index(name)); }

  /** The first of the other models, where it stands beside the two that are compared; else an empty text. */
  third({ model, against, view, head }) {
    if (!this.room || !against || view !== "side" || head < 0) return "";
    return this.models.find(({ name }) => name !== model && name !== against)?.name ?? "";
  }

  /** The state with every value made one that the payload has; the rules are those of `Choices.nearest`. @param {State} state @returns {State} */
  valid(state) {
    const next = { ...state };
    const pick = (value, known) => (known.includes(value) ? value : known[0] ?? "");
    next.model = pick(next.model, this.models.map((model) => model.name));
    next.layer = pick(Number(next.layer), this.layers(next.model));
    this.layer = next.layer; // `index` goes by it
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

  /** Where a branch may attend: several local branches have a neighbourhood each. @returns {?Uint8Array} null: everywhere */
  maskOf(index, branch) {
    if (!this.models[index].local.includes(branch)) return null;
    const own = `${index}/neighbourhood/${branch}`;
    return this.payload.array(this.payload.has(own) ? own : `${index}/neighbourhood`);
  }

  /** @returns {?FrameMap} of one model, branch and head */
  attention(index, modality, branch, head) {
    const model = this.models[index], layer = this.layers(model.name).length > 1 || model.layer ? ` · layer ${model.layer}` : "";
    const own = this.branchOf(index, branch);
    const name = `${index}/attention/${modality}/${own}/${head}`;
    if (!this.payload.has(name)) return null;
    const scene = this, { frames } = this, { support } = this.payload.about(name);
    const edited = this.isEdited(index) ? ", edited" : "";
    return {
      name, key: this.passName(name), kind: "weights", head, branch: own, frames, title: `${model.label}${edited}${layer} · ${own}`,
      unit: "attention weight", here: this.here(name), note: this.ofUnedited(index, name),
      line: model.lines[`${modality}/${own}/${head}`] ?? "line",
      get values() { return scene.array(name); },
      get mask() { return support ? scene.array(support) : null; },
      get allowed() { return scene.maskOf(index, own); },
    };
  }

  /** Keys that are vertical lines of a branch's own map, of the pass without edits. @param {FrameMap} map @returns {number[]} */
  lineKeys(map) {
    if (!map.line || map.kind !== "weights" || map.branch === "combined" || !map.here || this.edited?.has(map.name)) return [];
    return this.differences.get(`lines ${map.key}`, () => ({ value: lineKeys(map.values, map.allowed, map.frames), weight: map.frames }));
  }

  /**
   * What the edits change of a map: the edited pass less the one without edits, both of the engine, as the record's numbers
   * may be rounded. @returns {?FrameMap}
   */
  change(index, modality, branch, head) {
    const map = this.attention(index, modality, branch, head);
    if (!map || !this.isEdited(index)) return map;
    const { name } = map, { payload, differences } = this, { support } = payload.about(name), plain = this.ofEngine(name);
    const key = `change of ${map.key}`;
    const once = (what, make) => differences.get(`${what} ${key}`, () => ({ value: make(), weight: this.frames ** 2 }));
    return {
      ...map, key, kind: "difference", unit: "change of weight", here: map.here && Boolean(plain?.has(name)),
      title: map.title.replace(", edited", ", edited − unedited"),
      get values() { return once("values", () => subtracted(map.values, plain.array(name))); },
      get mask() { return support ? once("mask", () => map.mask.map((there, at) => there | payload.array(support)[at])) : null; },
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
      get values() { return once("values", () => subtracted(one.values, other.values)); },
      get mask() { return masked ? once("mask", () => one.mask.map((there, at) => there | other.mask[at])) : null; },
    };
  }

  /** Similarity of features, norms of gradients, or gates. @returns {?FrameMap} */
  leftMap(state) {
    const { payload } = this, name = this.leftName(state.left, this.index(state.model), state.modality);
    if (!payload.has(name)) return null;
    const [kind, title, unit] = LEFTS[state.left], scene = this;
    const here = this.here(name), note = state.left === "similarity" ? "" : this.ofUnedited(this.index(state.model), name);
    return { name, key: this.passName(name), kind, title, unit, mask: null, frames: this.frames, here, note, low: here ? this.lowest(name) : 0,
      get values() { return scene.array(name); } };
  }

  /** The least value of an array, at most 0. */
  lowest(name) {
    return this.differences.get(`lowest ${this.passName(name)}`, () => {
      let low = 0;
      for (const value of this.array(name)) if (value < low) low = value;
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

  /** The colours of a modality's frames, a pixel each. @returns {HTMLCanvasElement} */
  strip(modality) {
    return this.pictures.get(`strip|${modality}`, () => {
      const canvas = Object.assign(document.createElement("canvas"), { width: this.frames, height: 1 });
      const image = canvas.getContext("2d").createImageData(this.frames, 1), colours = this.payload.array(`strip/${modality}`);
      for (let frame = 0; frame < this.frames; frame++) image.data.set([...colours.subarray(3 * frame, 3 * frame + 3), 255], 4 * frame);
      canvas.getContext("2d").putImageData(image, 0, 0);
      return { value: canvas, weight: this.frames };
    });
  }

  /** Lanes that some of the models have, from the top. @param {number[]} shown models */
  lanes(shown) {
    const found = new Map(shown.flatMap((index) => this.models[index].lanes).reverse().map((lane) => [lane.variable, lane]));
    return [...found.values()].reverse().sort((one, other) => one.order - other.order);
  }

  /** What of the state decides which lines the lanes have: of the chosen dimensions those that a lane has. @param {State} state */
  linesKey(state) {
    const dimensions = this.shown(state).flatMap((index) => this.models[index].lanes).flatMap((lane) => lane.dimensions ?? []);
    const chosen = new Set(dimensions.map(([name]) => CHOSEN[name]).filter(Boolean));
    if (state.pinned) for (const name of ["modality", "layer", "lastHead"]) chosen.add(name); // of the row that is drawn then
    return [...chosen].map((name) => state[name] ?? "").join("|");
  }

  /** A model's lines in a lane: of chosen dimensions the label that the state says, of others every label. @returns {{labels: string[], branch: ?string, values: Float32Array}[]} */
  lines(index, variable, state) {
    const lane = this.models[index].lanes.find((each) => each.variable === variable);
    let lines = lane ? [{ path: [index, "lane", variable], labels: [], branch: null }] : [];
    for (const [dimension, names] of lane?.dimensions ?? []) {
      const chosen = dimension in CHOSEN;
      const shown = chosen ? [`${state[CHOSEN[dimension]] ?? ""}` || names[0]] : names;
      lines = lines.flatMap(({ path, labels, branch }) => shown.map((name) => ({
        path: [...path, name], labels: chosen ? labels : [...labels, name], branch: dimension === "branch" ? name : branch,
      })));
    }
    return lines.map((each) => ({ ...each, ...this.curve(each.path.join("/")) })).filter(({ values }) => values);
  }

  /** Values of a line, and those without edits where it was recomputed. */
  curve(name) {
    const before = this.explained.get(name) ?? this.payload.array(name), edited = before && this.edited?.array(name);
    return edited ? { values: edited, before } : { values: before, before: null };
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

function subtracted(one, other) { return one.map((value, at) => value - other[at]); }
