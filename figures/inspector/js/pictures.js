/** The cursor's frame as a picture, and pictures of the frames that are attended to. */

import { formatNumber } from "./words.js";
import { THEMES } from "./colours.js";
import { BOLD, text, fitted } from "./drawing.js";
import { Panel } from "./panel.js";

const PICTURE = { height: 216, title: 18 }, TILE = { title: 18, caption: 15, gap: 6 }; // pixels

/** The picture of the cursor's frame, from the copy of the video where there is one; a click plays. */
export class PicturePanel extends Panel {
  constructor(inspector) {
    super(inspector, "picture", "Picture of the cursor's frame");
    this.media = inspector.media;
  }

  /** Pixels of the panel in a row of a width, and of the row. */
  static sizes(media, width) {
    const narrow = width < 560, across = Math.min(narrow ? width : 0.36 * width, PICTURE.height * media.aspect);
    const down = PICTURE.title + Math.round(across / media.aspect);
    return { width: Math.round(across), height: down, others: narrow ? [width, 190] : [width - Math.round(across) - 14, down] };
  }

  key(state) { return [state.frame, this.media.presented, this.inspector.playback.isAt(state)].join("|"); }

  overlayKey() { return ""; }

  drawOverlay() {}

  locate() { return null; }

  click() { this.inspector.play(); }

  draw(context, state, theme) {
    const colours = THEMES[theme], { scene, media } = this, height = this.height - PICTURE.title;
    const title = `${scene.clock(state.frame)} · frame ${state.frame}${media.failed && ` · ${media.failed}`}`;
    text(context, fitted(context, title, this.width, BOLD), 0, 13, { colour: colours.ink, font: BOLD });
    context.fillStyle = colours.faint;
    context.fillRect(0, PICTURE.title, this.width, height);
    const { video } = media;
    context.imageSmoothingEnabled = true;
    if (this.inspector.playback.isAt(state)) context.drawImage(video, 0, 0, video.videoWidth, video.videoHeight, 0, PICTURE.title, this.width, height);
    else media.drawThumbnail(context, state.frame, 0, PICTURE.title, this.width, height);
    this.base.setAttribute("aria-label", `Picture of frame ${state.frame}, ${scene.clock(state.frame)}`);
  }
}

/** Two rows of pictures: of the frames that the cursor's frame attends to, and of those that are attended to most. */
export class AttendedPanel extends Panel {
  constructor(inspector) {
    super(inspector, "attended", "Frames that are attended to");
    this.media = inspector.media;
  }

  key(state) {
    const map = this.map(state);
    return [state.frame, state.pinned, map?.key, map?.here, Boolean(this.media.sheet)].join("|");
  }

  overlayKey({ hover }) { return hover?.panel === "attended" ? `${hover.key}` : ""; }

  map(state) {
    const { scene } = this;
    return scene.attention(scene.index(state.model), state.modality, state.branch, state.lastHead);
  }

  /** Mean weight of each frame over all queries. */
  received(map) {
    return this.scene.differences.get(`received ${map.key}`, () => {
      const { values, frames } = map, sums = new Float32Array(frames);
      for (let at = 0; at < values.length; at++) sums[at % frames] += values[at] / frames;
      return { value: sums, weight: frames };
    });
  }

  /** @returns {{title: string, values: Float32Array}[]} */
  rows(state) {
    const map = this.map(state), { frames } = this.scene;
    if (!map?.here) return [];
    const head = `${map.branch}, head ${map.head}`;
    return [
      { title: `${this.scene.clock(state.frame)} attends to${state.pinned ? " (pinned)" : ""} · weight · ${head}`,
        values: map.values.subarray(state.frame * frames, (state.frame + 1) * frames) },
      { title: `attended to most · mean weight over all queries · ${head}`, values: this.received(map) },
    ];
  }

  tile() {
    const height = Math.floor((this.height - 2 * (TILE.title + TILE.caption) - TILE.gap) / 2), width = Math.round(height * this.media.aspect);
    return { width, height, count: Math.max(1, Math.floor((this.width + TILE.gap) / (width + TILE.gap))) };
  }

  locate(x, y) {
    const frame = this.tiles?.find((box) => x >= box.x && x < box.x + box.width && y >= box.y && y < box.y + box.height)?.frame;
    return frame === undefined ? null : { panel: "attended", query: null, key: frame };
  }

  click(x, y) {
    const place = this.locate(x, y);
    if (place) this.inspector.set({ frame: place.key });
  }

  draw(context, state, theme) {
    const colours = THEMES[theme], { width, height, count } = this.tile();
    this.tiles = [];
    const rows = this.rows(state), said = [];
    if (!rows.length) text(context, this.map(state) ? "on its way" : "no attention map", 0, 13, { colour: colours.muted });
    rows.forEach(({ title, values }, row) => {
      const top = row * (TILE.title + height + TILE.caption + TILE.gap), frames = peaks(values, count);
      text(context, fitted(context, title, this.width, BOLD), 0, top + 13, { colour: colours.ink, font: BOLD });
      frames.forEach((frame, place) => {
        const box = { frame, x: place * (width + TILE.gap), y: top + TILE.title, width, height };
        this.tiles.push(box);
        this.drawTile(context, box, values[frame], values[frames[0]], colours);
      });
      said.push(`${title}: ${frames.map((frame) => `${this.scene.clock(frame)} ${formatNumber(values[frame], 2)}`).join(", ")}`);
    });
    this.base.setAttribute("aria-label", said.join(". "));
  }

  /** A picture, its second and weight, and a bar as long as its share of the row's largest weight. */
  drawTile(context, { frame, x, y, width, height }, value, most, colours) {
    context.fillStyle = colours.faint;
    context.fillRect(x, y, width, height);
    this.media.drawThumbnail(context, frame, x, y, width, height);
    context.fillStyle = colours.accent;
    context.fillRect(x, y + height, Math.max(1, (width * value) / most), 3);
    const words = `${this.scene.axisClock(this.scene.seconds[frame])}  ${formatNumber(value, 2)}`;
    text(context, fitted(context, words, width), x, y + height + 14, { colour: colours.ink });
  }

  drawOverlay(context, { hover }, theme) {
    if (hover?.panel !== "attended") return;
    context.strokeStyle = THEMES[theme].accent;
    context.lineWidth = 2;
    for (const box of this.tiles.filter(({ frame }) => frame === hover.key)) context.strokeRect(box.x + 1, box.y + 1, box.width - 2, box.height - 2);
  }
}

/** Frames at which values have a peak (more than the frame before, no less than the one after), the highest first. */
export function peaks(values, count) {
  const found = [];
  for (let at = 0; at < values.length; at++) {
    if (values[at] > (values[at - 1] ?? 0) && values[at] >= (values[at + 1] ?? 0)) found.push(at);
  }
  return found.sort((one, other) => values[other] - values[one] || one - other).slice(0, count);
}
