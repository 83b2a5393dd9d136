/** Maps of frames against frames. Query = row, key = column. */

import { formatNumber } from "./words.js";
import { THEMES, rangeOf } from "./colours.js";
import { FONT, BOLD, text, fitted, line, drawMark } from "./drawing.js";
import { Panel, spanBetween } from "./panel.js";
import { selectedEdges, drawOnMap } from "./selection.js";

export const EDGE = { left: 36, top: 36, right: 6, bottom: 42 };

const TITLE_JOINT = " · "; // parts of a title

/** One or several maps of frames against frames in one panel; several when all heads are shown. */
export class MapPanel extends Panel {
  /** @param {(state: State) => {maps: FrameMap[], share: FrameMap[], title: string, note: string, empty: string}} source */
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
    const keyOf = (map) => `${map.key}${map.here ? "" : ", on its way"}`;
    return [maps.map(keyOf), share.map(keyOf), state.scale, state.span].join("|");
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

  /** What a drag between two places selects. @returns {Selection} */
  selected(from, to) { return selectedEdges(from, to, this.cellAt(from.x, from.y), this.inspector.state.span); }

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
    const { maps, share, title, note, empty } = this.source(state);
    const here = [...maps, ...share].every((map) => map.here);
    this.maps = here ? maps : [];
    this.drawTitle(context, title, note, colours);
    if (!this.maps.length) {
      text(context, here ? empty : "on its way", EDGE.left, EDGE.top + 18, { colour: colours.muted });
      return;
    }
    const cells = this.cells(maps.length);
    const top = maps[0].kind === "similarity" ? 1 : this.scene.top(share);
    maps.forEach((map, index) => this.drawMap(context, map, cells[index], state, theme, top, maps.length > 1));
    this.drawAxes(context, cells[0], state, colours);
    this.drawScale(context, maps[0], cells, state, theme, top);
  }

  /** The title, and the note below it; the last parts of a title that is too long begin the line of the note. */
  drawTitle(context, title, note, colours) {
    const width = this.width - EDGE.left - 2, parts = title.split(TITLE_JOINT);
    context.font = BOLD;
    let kept = parts.length;
    while (kept > 1 && context.measureText(parts.slice(0, kept).join(TITLE_JOINT)).width > width) kept--;
    text(context, fitted(context, parts.slice(0, kept).join(TITLE_JOINT), width, BOLD), EDGE.left, 13, { colour: colours.ink, font: BOLD });
    const below = [...parts.slice(kept), note].filter(Boolean).join(TITLE_JOINT);
    if (below) text(context, fitted(context, below, width), EDGE.left, 27, { colour: colours.muted });
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
    for (const key of this.scene.lineKeys(map).filter((each) => each >= first && each < last)) {
      drawMark(context, map.line, box.x + ((key + 0.5 - first) * box.width) / count, box.y - 1, THEMES[theme].ink);
    }
    if (!named) return;
    context.fillStyle = THEMES[theme].page;
    context.globalAlpha = 0.85;
    context.fillRect(box.x + 2, box.y + 2, map.head > 9 ? 18 : 12, 14);
    context.globalAlpha = 1;
    text(context, `${map.head}`, box.x + 4, box.y + 13, { colour: THEMES[theme].ink, font: BOLD });
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
    const y = Math.max(...cells.map((cell) => cell.y + cell.height)) + 22, x = cells[0].x + 30;
    const ends = many && state.scale !== "row" ? ["0", "own top"] : [formatNumber(low, 2), formatNumber(high, 2)];
    const unit = state.scale === "row" && map.kind !== "similarity" ? "share of the row's largest" : map.unit;
    const words = `${ends[1]}  ${unit}${state.scale === "log" && map.kind !== "similarity" ? ", log" : ""}`;
    context.font = FONT;
    const room = this.width - x - 13, width = Math.round(Math.max(24, Math.min(84, room - context.measureText(words).width)));
    this.drawColours(context, this.scene.payload.array(`colours/${map.kind}-${theme}`), x, y, width);
    text(context, ends[0], x - 4, y + 8.5, { colour: colours.muted, align: "right" });
    text(context, fitted(context, words, room - width + 5), x + width + 5, y + 8.5, { colour: colours.muted });
  }

  /** A bar with the colours of a table, from its first to its last. */
  drawColours(context, table, x, y, width) {
    for (let step = 0; step < width; step++) {
      const at = 3 * Math.round((255 * step) / (width - 1));
      context.fillStyle = `rgb(${table[at]},${table[at + 1]},${table[at + 2]})`;
      context.fillRect(x + step, y, 1.05, 9);
    }
  }

  drawOverlay(context, state, theme) {
    if (!this.maps?.length) return;
    const colours = THEMES[theme];
    this.cells(this.maps.length).forEach((box, index) => {
      context.save();
      context.beginPath();
      context.rect(box.x, box.y, box.width, box.height);
      context.clip();
      drawOnMap(context, state.selection, box, state.span, colours);
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
