/** What is shown (the state), and what the payload holds for it (the scene). */

import { Recent } from "./payload.js";
import { clock, ticks } from "./words.js";
import { SCALES, topOf, pictureOf } from "./colours.js";

/**
 * What is shown; those in `TRAITS` are the widget's traits.
 * @typedef {{frame: number, modality: string, layer: number, branch: string, head: number, model: string, against: string,
 *   view: "side"|"difference", scale: string, class_: number, span: number[], pinned: boolean, theme: string,
 *   left: "similarity"|"gradient"|"gate", explanation: string, hover: ?{query: ?number, key: ?number}, playing: boolean, lastHead: number}} State
 *   head -1 = all; lastHead = the head that was chosen last, marked among all; class_ -1 = none; span = [first frame, frame after the last]; hover is the pointer's place
 */
export const START = {
  frame: 0, modality: "", layer: 0, branch: "", head: 0, model: "", against: "", view: "side", scale: "linear", class_: -1,
  span: [0, 0], pinned: false, theme: "auto", left: "similarity", explanation: "", hover: null, playing: false, lastHead: 0,
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

/** What of the state decides which lines the lanes have. @param {State} state */
export function linesKey(state) { return Object.values(CHOSEN).map((name) => state[name] ?? "").join("|"); }

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

  /** Models shown, the first one first. */
  shown(state) { return [state.model, state.against].filter(Boolean).map((name) => this.index(name)); }

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

  /** @returns {?FrameMap} of one model, branch and head */
  attention(index, modality, branch, head) {
    const model = this.models[index], layer = this.layers(model.name).length > 1 || model.layer ? ` · layer ${model.layer}` : "";
    const own = this.branchOf(index, branch);
    const name = `${index}/attention/${modality}/${own}/${head}`;
    if (!this.payload.has(name)) return null;
    const { payload, frames } = this, { support } = payload.about(name);
    return {
      key: name, kind: "weights", head, branch: own, frames, title: `${model.label}${layer} · ${own}`, unit: "attention weight",
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

  /** Lanes that some of the models have, from the top. @param {number[]} shown models */
  lanes(shown) {
    const found = new Map(shown.flatMap((index) => this.models[index].lanes).reverse().map((lane) => [lane.variable, lane]));
    return [...found.values()].reverse().sort((one, other) => one.order - other.order);
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
    return lines.map((each) => ({ ...each, values: this.payload.array(each.path.join("/")) })).filter(({ values }) => values);
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
