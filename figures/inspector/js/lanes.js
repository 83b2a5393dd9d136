/** Everything over time: the strip of frames, segments, curves. */

import { clock, formatNumber } from "./words.js";
import { THEMES, LINES, MODEL_DASHES } from "./colours.js";
import { FONT, BOLD, text, fitted, line } from "./drawing.js";
import { Panel, spanBetween } from "./panel.js";
import { selectedSeconds, drawOverTime } from "./selection.js";

const STRIP_HEIGHT = 48; // of the strip of pictures, in pixels
const HEADER = 16; // of a lane's name above its curves, on a narrow screen
const GUTTER = { left: 142, right: 138 }; // of the lanes, for their names and their values
const THREE_VALUES = 46; // more, for those of a third model
export const NARROW = 560; // pixels across, of a screen with no room beside the lanes
const NARROW_GUTTER = { left: 66, right: 14 };

/**
 * How a record's variable is drawn, as the payload says, and its lines.
 * @typedef {{name: string, units: string, label: string, height: number, series: Series[], reference: ?number, least: ?number,
 *   most: ?number, note: ?string}} Lane
 * @typedef {{label: string, colour: string, model: number, values: Float32Array, before: ?Float32Array}} Series   model counts those shown, values and
 *   before (of the pass without edits, where it was edited): shape (frame)
 */

/** Everything over time, one lane under the other, on one axis. */
export class LanePanel extends Panel {
  constructor(inspector) {
    const { scene } = inspector, names = scene.lanes(scene.models.map((_, index) => index)).map(({ name }) => name);
    super(inspector, "lanes", `Over time: ${["frames", "known segments", ...names].join(", ")}`);
    this.span = (from, to) => spanBetween(from, to, this.box(), inspector.state.span);
  }

  get gutter() {
    if (this.narrow) return NARROW_GUTTER;
    return this.three ? { ...GUTTER, right: GUTTER.right + THREE_VALUES } : GUTTER;
  }

  get three() { return Boolean(this.scene.third(this.inspector.state)); }

  get narrow() { return this.width < NARROW; }

  box() { return { x: this.gutter.left, y: 0, width: this.width - this.gutter.left - this.gutter.right, height: this.height - 18 }; }

  key(state) {
    return [this.scene.shown(state), this.scene.linesKey(state), state.span, state.class_, state.pinned && state.branch,
      state.pinned && state.frame, Boolean(this.inspector.media?.sheet), this.scene.passKey].join("|");
  }

  /** What a drag between two places selects. @returns {Selection} */
  selected(from, to) { return selectedSeconds(from, to, this.box(), this.inspector.state.span); }

  /** Height in pixels that the lanes need. */
  wanted(state, width) {
    const lanes = this.stack(state), headers = width < NARROW ? HEADER * lanes.filter(({ kind }) => kind === "curves").length : 0;
    return lanes.reduce((sum, lane) => sum + lane.height, 18 + headers);
  }

  stack(state) {
    const { clip, modalities } = this.scene;
    const strips = clip.thumbnails ? [{ kind: "thumbnails", name: "frames", height: Math.min(STRIP_HEIGHT, clip.thumbnails.height) + 6 }]
      : modalities.filter((each) => this.scene.payload.has(`strip/${each}`))
        .map((each) => ({ kind: "strip", name: each, modality: each, height: 15 }));
    const segments = clip.segments.length ? [{ kind: "segments", name: "segments", height: 24 }] : [];
    return [...strips, ...segments, ...this.curves(state)];
  }

  /** @returns {Lane[]} those that have a line */
  curves(state) {
    const { scene } = this, theme = this.inspector.theme(), shown = scene.shown(state);
    const lanes = [...scene.lanes(shown).map((lane) => this.lane(lane, shown, state, theme)),
      ...(state.pinned ? [this.pinnedLane(state, scene.payload.header.branches[theme])] : [])];
    return lanes.filter((lane) => lane.series.length).map((lane) => ({ kind: "curves", ...lane }));
  }

  /** A variable of the record: its lines, dashed of the second and third model; in the colours of their branches, if they have any. */
  lane({ kind, ...lane }, shown, state, theme) {
    const { scene } = this, branches = scene.payload.header.branches[theme];
    const series = shown.flatMap((index, order) => scene.lines(index, lane.variable, state).map((line, place) => ({
      label: line.labels.join(" ") || lane.label, colour: branches[line.branch] ?? LINES[theme][place % LINES[theme].length],
      model: order, values: line.values, before: line.before,
    })));
    const rows = new Set(series.map(({ label }) => label)).size;
    const unedited = series.some(({ model, before }) => scene.isEdited(shown[model]) && !before) ? "of the unedited model" : "";
    const note = [this.note(lane, shown, state), unedited].filter(Boolean).join("   ") || null;
    return { ...lane, series, height: Math.max(lane.height, 15 * rows + 4), note };
  }

  /** Of a lane that has explanations: by which method, of which class, and how faithful it is. */
  note({ dimensions }, shown, state) {
    if (!dimensions.some(([name]) => name === "explainer")) return null;
    const faithful = this.scene.models[shown[0]].explanations?.[state.explanation] ?? "";
    const method = state.explanation || dimensions.find(([name]) => name === "explainer")[1][0];
    return `${method}${this.explained(shown)}   ${faithful}`;
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
      return [{ label, colour: colours[map.branch], model: order, values: row }];
    });
    return { name: `${scene.axisClock(scene.seconds[state.frame])} attends to`, units: `head ${head}, ${state.branch}`, height: 50, series,
      reference: 1 / frames, least: 0, most: null };
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
      const curves = lane.kind === "curves", header = curves && this.narrow ? HEADER : 0;
      const above = header + (lane.note ? 13 : 0); // room for a note over the curves
      lane.height += header;
      const box = { ...this.box(), y: y + 3 + above, height: lane.height - 6 - above };
      Object.assign(lane, { y, box });
      if (!curves) text(context, fitted(context, lane.name, this.gutter.left - 8), 2, y + lane.height / 2 + 4, { colour: colours.ink });
      context.save();
      context.beginPath();
      context.rect(box.x, box.y - 1, box.width, box.height + 2);
      context.clip();
      this[`draw_${lane.kind}`](context, lane, state, colours);
      context.restore();
      if (lane.note) text(context, fitted(context, lane.note, box.width - 8), box.x + 4, y + header + 12, { colour: colours.muted });
      if (curves) this.drawLegend(context, lane, colours);
      y += lane.height;
    }
    this.drawAxis(context, state, colours);
  }

  draw_thumbnails(context, lane, state, colours) {
    const { media } = this.inspector, at = this.place(state), width = lane.box.height * media.aspect;
    const stride = Math.max(1, Math.floor(width / (at(1) - at(0)))), last = Math.min(state.span[1], this.scene.frames);
    for (let frame = state.span[0]; frame < last; frame += stride) {
      media.drawThumbnail(context, frame, at(frame), lane.box.y, Math.min(width, at(stride) - at(0) - 1), lane.box.height);
    }
  }

  draw_strip(context, lane, state) {
    const [first, last] = state.span;
    context.imageSmoothingEnabled = false;
    context.drawImage(this.scene.strip(lane.modality), first, 0, last - first, 1, lane.box.x, lane.box.y, lane.box.width, lane.box.height);
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
      context.strokeStyle = colours.edge;
      context.lineWidth = 1;
      context.strokeRect(from + 1, lane.box.y + 0.5, Math.max(1, to - from - 2), lane.box.height - 1);
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
      if (series.before) this.drawBefore(context, series.before, state, at, up);
      context.lineWidth = 1.4;
      context.setLineDash(series.model ? MODEL_DASHES[series.model] : series.label === "combined" ? [1.5, 1.5] : []);
      this.drawSeries(context, series.values, state, at, up);
    }
    context.setLineDash([]);
  }

  /** What the line was without edits: thin and dotted. */
  drawBefore(context, values, state, at, up) {
    context.lineWidth = 1;
    context.globalAlpha = 0.8;
    context.setLineDash([2, 2]);
    this.drawSeries(context, values, state, at, up);
    context.globalAlpha = 1;
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
    for (const values of lane.series.flatMap((series) => [series.values, series.before]).filter(Boolean)) {
      for (let frame = state.span[0]; frame < state.span[1]; frame++) {
        if (values[frame] < low) low = values[frame];
        if (values[frame] > high) high = values[frame];
      }
    }
    if (low > high) [low, high] = [0, 1];
    [low, high] = [Math.min(low, lane.reference ?? low), Math.max(high, lane.reference ?? high)];
    if (lane.least !== null) return [lane.least, lane.most ?? lane.least + (Math.max(0, high - lane.least) * 1.06 || 1)];
    if (lane.most !== null) return [lane.most - (Math.max(0, lane.most - low) * 1.06 || 1), lane.most];
    const room = lane.reference === null ? (high - low) * 0.08 || 0.02 : Math.max(0.02, (high - low) * 0.08);
    return [low - room, high + room];
  }

  /** Name, unit and ends of the axis on the left; words end before the numbers. */
  drawLegend(context, lane, colours) {
    const ends = { colour: colours.muted, align: "right" }, [high, low] = [lane.high, lane.low].map((each) => formatNumber(each, 2));
    context.font = FONT;
    text(context, high, this.gutter.left - 4, lane.box.y + 9, ends);
    text(context, low, this.gutter.left - 4, lane.box.y + lane.box.height, ends);
    if (this.narrow) return; // the header says the rest
    const room = this.gutter.left - 8 - Math.max(...[high, low].map((each) => context.measureText(each).width));
    context.font = BOLD;
    const font = context.measureText(lane.name).width <= room ? BOLD : FONT; // a longer name in narrower letters
    text(context, fitted(context, lane.name, room, font), 2, lane.y + 15, { colour: colours.ink, font });
    text(context, fitted(context, lane.units, room), 2, lane.y + 29, { colour: colours.muted });
  }

  drawAxis(context, state, colours) {
    const { scene } = this, box = this.box(), at = this.place(state), y = this.height - 5;
    const [from, to] = state.span.map((frame) => scene.edge(frame));
    for (const second of scene.ticks(from, to, Math.floor(box.width / 60))) {
      const x = at((second - (scene.seconds[0] ?? 0)) / scene.clip.frame_seconds);
      text(context, scene.axisClock(second), x, y, { colour: colours.muted, align: "center" });
    }
    if (scene.origin) text(context, fitted(context, `from ${clock(scene.origin)}`, box.x - 20), 2, y, { colour: colours.muted });
  }

  drawOverlay(context, state, theme) {
    const colours = THEMES[theme], box = this.box(), at = this.place(state);
    if (!this.lanes || !this.scene.frames) return;
    context.save();
    context.beginPath();
    context.rect(box.x, 0, box.width, box.height);
    context.clip();
    this.drawBrush(context, box, colours);
    drawOverTime(context, state.selection, box, at, colours);
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

  /** At the right, what each curve is at the pointer's frame, or at the cursor's; this says which colour is which, too. */
  drawValues(context, frame, colours) {
    for (const lane of this.lanes.filter(({ kind }) => kind === "curves")) {
      if (this.narrow) { this.drawHeader(context, lane, frame, colours); continue; }
      const x = this.width - this.gutter.right + 8;
      this.valuesOf(lane, frame).forEach(({ label, colour, words }, row) => {
        const y = lane.y + 15 + 15 * row;
        this.drawKey(context, label, colour, x, y);
        text(context, fitted(context, words, this.width - x - 14), x + 14, y, { colour: colours.ink });
      });
    }
  }

  /** Above the curves, where there is no room beside them: name and unit on the left, values on the right. */
  drawHeader(context, lane, frame, colours) {
    let right = this.width - this.gutter.right;
    context.font = FONT;
    for (const { label, colour, words } of this.valuesOf(lane, frame).reverse()) {
      const wide = context.measureText(words).width;
      if (right - wide - 14 < 90) break;
      text(context, words, right - wide, lane.y + 13, { colour: colours.ink });
      this.drawKey(context, label, colour, right - wide - 13, lane.y + 13);
      right -= wide + 22;
    }
    const name = fitted(context, lane.name, right - 2, BOLD);
    text(context, name, 2, lane.y + 13, { colour: colours.ink, font: BOLD });
    context.font = BOLD;
    const from = 10 + context.measureText(name).width;
    context.font = FONT;
    if (from + context.measureText(lane.units).width <= right) text(context, lane.units, from, lane.y + 13, { colour: colours.muted });
  }

  drawKey(context, label, colour, x, y) {
    context.strokeStyle = colour;
    context.lineWidth = 2;
    context.setLineDash(label === "combined" ? [1.5, 1.5] : []);
    line(context, x, y - 4, x + 10, y - 4);
    context.setLineDash([]);
  }

  /** What the lines of a lane are at a frame; of two models, or of two passes, together. @returns {{label, colour, words}[]} */
  valuesOf(lane, frame) {
    return [...new Set(lane.series.map(({ label }) => label))].map((label) => {
      const same = lane.series.filter((series) => series.label === label), two = same.length > 1 || same[0].before;
      // Several numbers share the room of one: what is written with a power of ten keeps one digit.
      const words = (value) => formatNumber(value, !two ? 3 : Math.abs(value) < 1e-3 ? 1 : 2);
      const ofSeries = ({ before, values }) => [before, values].filter(Boolean).map((each) => words(each[frame])).join(" → ");
      // Of three models it is said which have no such line; of two the line itself tells.
      const values = this.three ? [0, 1, 2].map((order) => same.filter(({ model }) => model === order).map(ofSeries).join(" ") || "–").join(" | ")
        : same.map(ofSeries).join(" | ");
      return { label, colour: same[0].colour, words: `${label} ${values}` };
    });
  }

  /** The values of the lane at a height, in words; an empty text where no curves are. */
  valuesAt(y, frame) {
    const lane = this.lanes?.find((each) => each.kind === "curves" && y >= each.y && y < each.y + each.height);
    return lane ? `${lane.name}${lane.units && ` (${lane.units})`}: ${this.valuesOf(lane, frame).map(({ words }) => words).join(", ")}` : "";
  }
}
