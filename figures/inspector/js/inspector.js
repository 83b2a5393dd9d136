/** The inspector: state, panels, layout, keys, what is told, and how fast it is. */

import { formatNumber } from "./words.js";
import { THEMES } from "./colours.js";
import { START, TRAITS, Scene } from "./state.js";
import { create, BOLD, text, fitted } from "./drawing.js";
import { EDGE, MapPanel } from "./maps.js";
import { PredictionPanel } from "./predictions.js";
import { Media } from "./media.js";
import { NARROW, LanePanel } from "./lanes.js";
import { LegendPanel } from "./legend.js";
import { Tip } from "./tip.js";
import { PicturePanel, AttendedPanel } from "./pictures.js";
import { Playback } from "./playback.js";
import { SvgContext, download } from "./save.js";
import { KEYS, Controls } from "./controls.js";
import { pressKey } from "./keyboard.js";
import { pythonOfView } from "./python.js";
import { measureSteps, afterPaint } from "./measure.js";
import { WhatIf } from "./what_if.js";
import { csv, mapTable, lineTable, predictionTable } from "./tables.js";
import { Address } from "./address.js";
import { ExplainedClasses } from "./explained.js";

const WIDE = 1480; // pixels across, of a screen with room for the maps of three models and one beside them

export class Inspector {
  /**
   * @param {HTMLElement} root an empty element @param {Payload} payload @param {Partial<State>} initial
   * @param {(state: State) => void} notify called after every change that is not the pointer's
   */
  constructor(root, payload, initial = {}, notify = () => {}) {
    const began = performance.now();
    Object.assign(this, { root, notify, scene: new Scene(payload), pending: 0, undo: [], whatIf: null, address: null });
    this.state = this.scene.valid({ ...START, span: [0, payload.header.clip.frames], ...initial });
    root.classList.add("gmsa-inspector");
    root.replaceChildren();
    Object.assign(root, { tabIndex: 0, inspector: this });
    for (const [name, value] of [["role", "application"], ["aria-label", `Inspector of ${this.scene.clip.id}. ${KEYS}`],
      ["data-lm-suppress-shortcuts", "true"]]) root.setAttribute(name, value);
    this.media = this.scene.clip.thumbnails ? new Media(this.scene, () => this.schedule()) : null;
    this.playback = new Playback(this);
    this.explained = new ExplainedClasses(this);
    this.controls = new Controls(this);
    this.tip = new Tip(this);
    this.makePanels();
    root.append(this.controls.head, this.maps, ...this.pictures ? [this.pictures] : [], ...this.lanes ? [this.lanes.element, this.legend.element] : [], this.controls.foot, this.tip.element);
    this.watch();
    this.layout();
    this.paint();
    this.opened = afterPaint().then(() => { this.openedAt = performance.now(); this.firstPaint = this.openedAt - began; });
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
      const title = map ? [state.modality, map.title].filter(Boolean).join(" · ") : "";
      return { maps: map ? [map] : [], share: map ? this.withCounterparts([map]) : [], title, note: map?.note ?? "", empty: "not in the record" };
    });
    this.first = new MapPanel(this, "first", "Attention weights: query by key", (state) => this.attention(state, 0));
    this.second = new MapPanel(this, "second", "Attention weights of the second model: query by key", (state) => this.attention(state, 1));
    this.third = new MapPanel(this, "third", "Attention weights of the third model: query by key", (state) => this.attention(state, 2));
    this.predictions = new PredictionPanel(this, "predictions", "Predictions");
    this.lanes = new LanePanel(this);
    this.legend = new LegendPanel(this);
    this.panels = [this.left, this.first, this.second, this.third, this.predictions, this.lanes, this.legend];
    this.maps.append(...this.panels.slice(0, 5).map((panel) => panel.element));
    if (!this.media) return;
    this.picture = new PicturePanel(this);
    this.attended = new AttendedPanel(this);
    this.pictures = create("div", { class: "pictures" }, this.picture.element, this.attended.element);
    this.panels.push(this.picture, this.attended);
  }

  /** What the attention panels show. @param {number} order 0 to 2: the first, second or third model */
  attention(state, order) {
    const { scene } = this, shown = scene.shown(state), difference = state.against && state.view === "difference";
    const heads = state.head < 0 ? scene.heads(state.model, state.modality, state.branch) : [state.head];
    const change = state.pass === "change" && scene.isEdited(shown[order]);
    const of = (index, head) => (difference ? scene.difference(shown[0], shown[1], state.modality, state.branch, head)
      : scene[change ? "change" : "attention"](index, state.modality, state.branch, head));
    const maps = heads.map((head) => of(shown[order], head)).filter(Boolean);
    const share = difference || change || heads.length > 1 ? maps
      : this.withCounterparts(shown.map((index) => of(index, heads[0])).filter(Boolean));
    const like = scene.isEdited(shown[order]) ? maps[0]?.note
      : scene.models[shown[order]]?.patterns[`${state.modality}/${maps[0]?.branch}/${state.head}`];
    const which = state.head < 0 ? "all heads" : `head ${state.head}`, note = state.head >= 0 && like && !difference ? like : "";
    const model = scene.models[shown[order]];
    const title = difference ? shown.map((index) => scene.models[index].label).join(" − ") : model?.label ?? "";
    return { maps, share, title: maps.length ? `${maps[0].title} · ${which}` : title, note,
      empty: maps.length ? "" : this.whyEmpty(state, difference ? shown : shown.slice(order, order + 1)) };
  }

  /** Maps with those of the pass that is not shown, so that the colours stay when it is. */
  withCounterparts(maps) { return [...maps, ...maps.map((map) => this.scene.counterpart(map)).filter(Boolean)]; }

  /** Keep the view in the address, which is the page's own. */
  keepInAddress() {
    this.address = new Address(this);
    this.undo.push(() => this.address.close());
  }

  /** Take an engine, which answers edits of one model's pass: from then on the page offers them. See docs/inspector_payload.md. */
  attach(engine) {
    if (!this.whatIf) {
      this.whatIf = new WhatIf(this);
      this.controls.head.after(this.whatIf.bar.element);
    }
    this.whatIf.attach(engine);
    if (this.address && !this.whatIf.inAddress) this.whatIf.keepInAddress(this.address);
    this.controlled = "";
    this.schedule();
  }

  /** Why there is no map of models: one has no attention, they have different branches, or a branch lacks the head. */
  whyEmpty(state, indices) {
    const { scene } = this, label = (index) => scene.models[index].label;
    const bare = indices.find((index) => !scene.models[index].branches.length);
    if (bare !== undefined) return indices.length > 1 ? `${label(bare)} has no attention` : "a model without attention";
    const branches = indices.map((index) => scene.branchOf(index, state.branch));
    if (new Set(branches).size > 1) return `no difference of ${branches.join(" and ")}: they are different branches`;
    const lacks = indices.find((index) => !scene.attention(index, state.modality, state.branch, state.head)) ?? indices[0];
    return `${indices.length > 1 ? `${label(lacks)}: ` : ""}no head ${state.head} of the ${branches[0]} branch`;
  }

  /** Take the second part of the payload. @param {ArrayBuffer} rest */
  complete(rest) {
    this.scene.payload.rest = rest;
    this.media?.open();
    this.panels.forEach((panel) => { panel.drawn = ""; });
    this.shape = "";
    this.schedule();
  }

  /** Change the state; what does not exist in the payload becomes what does. */
  set(change) {
    const before = this.state;
    this.state = this.scene.valid({ ...before, ...change });
    this.schedule();
    if (TRAITS.some((name) => JSON.stringify(before[name]) !== JSON.stringify(this.state[name]))) {
      this.notify(this.state);
      this.address?.write();
    }
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
    this.whatIf?.follow(state);
    this.explained.follow(state);
    const shape = [state.model, state.against, state.view, state.head < 0, state.pinned, state.class_, state.branch, this.scene.passKey,
      state.modality, state.layer, state.explanation, this.scene.linesKey(state),
      ...this.legend?.lineKinds(state) ?? []].join("|");
    if (shape !== this.shape) { this.shape = shape; this.layout(); }
    this.playback.follow(state);
    this.panels.filter((panel) => panel.width).forEach((panel) => panel.paint(state, theme));
    const { hover, ...chosen } = state, made = JSON.stringify(chosen);
    if (made !== this.controlled) { this.controlled = made; this.controls.update(state); this.whatIf?.bar.update(state); }
    this.controls.readout.textContent = this.readout();
    this.tip.update(state);
  }

  /** Sizes of all panels from the width there is. */
  layout() {
    const width = Math.floor(this.root.clientWidth) - 24;
    if (!this.panels.length || width < 100) return;
    const { state, scene } = this, ratio = window.devicePixelRatio || 1;
    const room = width >= WIDE;
    if (room !== scene.room) this.schedule(); // what engines give of a third model is asked for
    scene.room = room;
    const two = Boolean(state.against) && state.view === "side", all = state.head < 0;
    const scores = scene.payload.has(`${scene.index(state.model)}/score`) && width >= 640 ? 236 : 0;
    const crowded = two && width < 980; // then two large maps say more than three small ones
    const maps = [this.left, this.first, this.second, this.third];
    const shows = [Boolean(scene.leftMap(state)) && !crowded, scene.models.some((model) => model.branches.length), two, Boolean(scene.third(state))];
    const count = Math.max(1, shows.filter(Boolean).length), gap = 10;
    const size = Math.max(170, Math.min(392, width < NARROW ? width : Math.floor((width - scores - gap * count) / count)));
    const height = size - EDGE.left - EDGE.right + EDGE.top + EDGE.bottom;
    const others = (shows[0] ? size + gap : 0) + scores + gap;
    const wide = all ? Math.floor((width - others - (two ? gap : 0)) / (two ? 2 : 1)) : size;
    maps.forEach((panel, index) => {
      panel.element.hidden = !shows[index];
      if (!shows[index]) { panel.resize(0, height, ratio); return; }
      const heads = all && index ? panel.source(state).maps.length : 1;
      panel.resize(heads > 1 ? panel.widthFor(heads, Math.max(size, wide), height) : size, height, ratio);
    });
    const used = shows.reduce((sum, there, index) => sum + (there ? maps[index].width + gap : 0), 0);
    if (scores) this.predictions.resize(Math.min(420, Math.max(scores, width - used)), height, ratio);
    else this.predictions.resize(width, Math.min(height, this.predictions.wanted(state)), ratio);
    if (this.media) {
      const { width: across, height: down, others } = PicturePanel.sizes(this.media, width);
      this.picture.resize(across, down, ratio);
      this.attended.resize(...others, ratio);
    }
    this.lanes.resize(width, this.lanes.wanted(state, width), ratio);
    this.legend.resize(width, this.legend.wanted(state, width), ratio);
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
    const pressed = (event) => { this.whatIf?.press(event); pressKey(this, event); }; // the root outlives this inspector when the payload changes
    this.root.addEventListener("keydown", pressed);
    this.undo.push(() => this.root.removeEventListener("keydown", pressed),
      () => sizes.disconnect(), () => themes.disconnect(), () => system.removeEventListener("change", changed),
      () => this.stop(), () => this.media?.close(), () => cancelAnimationFrame(this.pending));
  }

  destroy() {
    this.whatIf?.destroy();
    this.undo.forEach((undo) => undo());
  }

  // -- where the keys lead

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

  /** See `Playback`; again to stop. */
  play() { this.playback.play(); }

  stop() { this.playback.stop(); }

  // -- what is read out

  /** Runs of frames in N_i of the cursor's frame, of the branch or of all: [first, after the last]. None where no model has a neighbourhood. */
  neighbours(state) {
    const { scene } = this, { frames } = scene;
    const index = scene.shown(state).find((each) => scene.payload.has(`${each}/neighbourhood`));
    if (index === undefined) return [];
    const own = `${index}/neighbourhood/${state.branch}`, runs = [];
    const mask = scene.array(scene.payload.has(own) ? own : `${index}/neighbourhood`);
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
      const segment = scene.clip.segments.find(({ start, end, kind, origin }) =>
        (kind !== "background" || origin) && scene.seconds[frame] >= start && scene.seconds[frame] < end);
      return `${named(frame)}${segment ? ` · ${segment.label || segment.kind}${segment.origin && ` of ${segment.origin}`}` : ""}${state.pinned ? ` · pinned ${scene.clock(state.frame)}` : ""}`;
    }
    const panel = this[hover.panel], map = panel?.maps?.[hover.map];
    if (!map) return "";
    const at = hover.query * scene.frames + hover.key;
    const outside = map.mask && !map.mask[at];
    const value = outside ? "outside the neighbourhood" : `${map.unit} ${formatNumber(map.values[at], scene.payload.header.precision === "float32" ? 6 : 4)}`;
    const head = map.head === undefined ? "" : ` · head ${map.head}`;
    const times = map.kind === "weights" && map.unit === "attention weight" && !outside
      ? ` = ${formatNumber(map.values[at] * (map.mask ? rowEntries(map.mask, hover.query, scene.frames) : scene.frames), 3)} × uniform` : "";
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
    const maps = this.maps.getBoundingClientRect(), last = (this.legend?.element ?? this.maps).getBoundingClientRect();
    const top = maps.top - origin.top - 28;
    return { top, width: Math.round(origin.width), height: Math.round(last.bottom - origin.top - top + 8) };
  }

  fileName(suffix) {
    const { state, scene } = this;
    const layer = scene.layers(state.model).length > 1 ? `layer${state.layer}` : "";
    return [scene.clip.id, state.model, state.against, state.modality, layer, state.branch].filter(Boolean).join("-")
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

  /** Tables that can be saved, by name. */
  get tables() {
    return {
      maps: { words: "maps", make: mapTable }, curves: { words: "over time", make: lineTable },
      predictions: { words: "predictions", make: predictionTable },
    };
  }

  /** @param {string} name of `tables` */
  saveCsv(name) {
    download(new Blob([csv(this.tables[name].make(this))], { type: "text/csv" }), this.fileName(`-${name}.csv`));
  }

  /** Python that shows the same view again. */
  python() { return pythonOfView(this.scene, this.state); }

  /** See `measureSteps`. */
  measure(keys, steps = 200) { return measureSteps(this, keys, steps); }
}

/** Entries of one row of a mask. */
function rowEntries(mask, row, frames) {
  let sum = 0;
  for (let key = 0; key < frames; key++) sum += mask[row * frames + key] ? 1 : 0;
  return sum;
}
