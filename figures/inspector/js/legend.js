/** What the signs of the view mean: dashes, colours, boxes. */

import { THEMES, MODEL_DASHES } from "./colours.js";
import { text, line, widthOf, drawMark } from "./drawing.js";
import { Panel } from "./panel.js";

const LEGEND_ROW = 17, SIGN = 18, SIGN_GAP = 16; // pixels
const SIGN_DASHES = { first: MODEL_DASHES[0], second: MODEL_DASHES[1], third: MODEL_DASHES[2], combined: [1.5, 1.5], reference: [1, 3], before: [2, 2] };

/** A sign and what it means. @typedef {{sign: string, colour: string, words: string}} Meaning */

/** Only signs that are in the view, in as many rows as they need; saved with the picture. */
export class LegendPanel extends Panel {
  constructor(inspector) { super(inspector, "legend", "Legend"); }

  key(state) {
    return [this.scene.shown(state), state.branch, state.class_, state.pinned, this.scene.passKey, ...this.lineKinds(state)].join("|");
  }

  overlayKey() { return ""; }

  drawOverlay() {}

  locate() { return null; }

  click() {}

  /** @returns {Meaning[]} */
  meanings(state, theme) {
    const { scene } = this, colours = THEMES[theme], models = scene.shown(state).map((index) => scene.models[index]);
    return [...this.ofLines(state, colours, models), ...this.ofSegments(state, colours), ...this.ofFrames(state, colours, models, theme)];
  }

  ofLines(state, colours, models) {
    const { scene } = this, lanes = scene.lanes(scene.shown(state));
    const names = models.length > 1 ? models.map(({ label }, order) => ({ sign: ["first", "second", "third"][order], colour: colours.ink, words: label })) : [];
    return [...names,
      ...(models.some(({ branches }) => branches.includes("combined")) ? [{ sign: "combined", colour: colours.muted, words: "combined branch" }] : []),
      ...(lanes.some(({ reference }) => reference !== null) ? [{ sign: "reference", colour: colours.muted, words: "the value that the unit names" }] : []),
      ...(scene.edited ? [{ sign: "before", colour: colours.ink, words: "without edits" }] : [])];
  }

  ofSegments(state, colours) {
    const { clip, classes } = this.scene, known = clip.segments.filter(({ kind }) => kind !== "background");
    const chosen = known.some((segment) => segment.classes.includes(state.class_));
    return [
      ...(known.length ? [{ sign: "box", colour: colours.event, words: "known event" }] : []),
      ...(chosen ? [{ sign: "box", colour: colours.chosen, words: `known event of ${classes.get(state.class_).name}` }] : []),
    ];
  }

  ofFrames(state, colours, models, theme) {
    const { scene } = this, strips = !scene.clip.thumbnails && scene.modalities.some((each) => scene.payload.has(`strip/${each}`));
    const masked = models.some((_, order) => scene.payload.has(`${scene.shown(state)[order]}/neighbourhood`));
    return [
      ...(strips ? [{ sign: "strip", colour: "", words: "frames that are alike have like colours" }] : []),
      { sign: "cursor", colour: colours.accent, words: "the cursor's frame" },
      ...(masked && models.some(({ local }) => local.includes(state.branch)) ? [{ sign: "box", colour: scene.payload.header.excluded[theme], words: "outside the neighbourhood" }] : []),
      ...this.ofVerticalLines(state, colours),
      ...(masked && state.pinned ? [{ sign: "outline", colour: colours.outline, words: "neighbourhood of the pinned frame" }] : []),
    ];
  }

  /** Marks above the maps that are shown. */
  ofVerticalLines(state, colours) {
    const kinds = this.lineKinds(state);
    return [
      ...(kinds.has("line") ? [{ sign: "line", colour: colours.ink, words: "vertical line: most queries attend to this key" }] : []),
      ...(kinds.has("no-op") ? [{ sign: "no-op", colour: colours.ink, words: "vertical line whose value is near zero in this clip (no-op sink)" }] : []),
    ];
  }

  /** @returns {Set<string>} */
  lineKinds(state) {
    const { scene } = this, maps = scene.shown(state).flatMap((_, order) => this.inspector.attention(state, order).maps);
    return new Set(maps.filter((map) => scene.lineKeys(map).length).map(({ line: kind }) => kind));
  }

  /** Places of the signs in a width. @param {Meaning[]} meanings @returns {{x: number, row: number}[]} */
  places(meanings, width) {
    let x = 0, row = 0;
    return meanings.map(({ words }) => {
      const wide = SIGN + 6 + widthOf(words);
      if (x && x + wide > width) { x = 0; row += 1; }
      const place = { x, row };
      x += wide + SIGN_GAP;
      return place;
    });
  }

  /** Height in pixels that it needs. */
  wanted(state, width) {
    const places = this.places(this.meanings(state, this.inspector.theme()), width);
    return places.length ? (places.at(-1).row + 1) * LEGEND_ROW + 4 : 0;
  }

  draw(context, state, theme) {
    const meanings = this.meanings(state, theme), places = this.places(meanings, this.width);
    meanings.forEach((meaning, index) => {
      const { x, row } = places[index], y = row * LEGEND_ROW + 13;
      this.drawSign(context, meaning, x + 2, y - 4, THEMES[theme]);
      text(context, meaning.words, x + SIGN + 6, y, { colour: THEMES[theme].muted });
    });
    this.base.setAttribute("aria-label", `Legend: ${meanings.map(({ sign, words }) => `${sign} = ${words}`).join("; ")}`);
  }

  drawSign(context, { sign, colour }, x, y, colours) {
    context.fillStyle = context.strokeStyle = colour;
    context.lineWidth = sign === "before" || sign === "reference" ? 1 : 1.6;
    if (sign in SIGN_DASHES) {
      context.setLineDash(SIGN_DASHES[sign]);
      line(context, x, y, x + SIGN - 2, y);
      context.setLineDash([]);
    } else if (sign === "line" || sign === "no-op") drawMark(context, sign, x + SIGN / 2 - 1, y + 3, colour);
    else if (sign === "outline") context.strokeRect(x + 1, y - 4, SIGN - 4, 8);
    else if (sign === "strip") this.drawStrip(context, x, y);
    else {
      context.globalAlpha = sign === "cursor" ? 0.5 : 1;
      context.fillRect(x, y - 5, SIGN - 2, 10);
      context.globalAlpha = 1;
      context.strokeStyle = colours.edge;
      context.lineWidth = 1;
      if (sign === "box") context.strokeRect(x + 0.5, y - 4.5, SIGN - 3, 9);
    }
  }

  /** The strip's own colours, of frames over all the clip. */
  drawStrip(context, x, y) {
    const { scene } = this, colours = scene.payload.array(`strip/${scene.modalities.find((each) => scene.payload.has(`strip/${each}`))}`);
    for (let part = 0; part < 4; part++) {
      const at = 3 * Math.floor(((part + 0.5) / 4) * scene.frames);
      context.fillStyle = `rgb(${colours[at]},${colours[at + 1]},${colours[at + 2]})`;
      context.fillRect(x + part * 4, y - 5, 4, 10);
    }
  }
}
