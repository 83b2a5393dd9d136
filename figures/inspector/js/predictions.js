/** Probabilities of classes. */

import { THEMES } from "./colours.js";
import { FONT, BOLD, text, fitted } from "./drawing.js";
import { Panel } from "./panel.js";

const ROW = 31;

/** Probabilities of the most likely classes and of the clip's labels, of the models that are shown. */
export class PredictionPanel extends Panel {
  key(state) { return [this.scene.shown(state), state.class_, this.scene.passKey].join("|"); }

  overlayKey() { return ""; }

  /** Classes to list: the most likely, then labels of the clip, each with its rank. @returns {object[]} */
  rows(state) {
    const { scene } = this, shown = scene.shown(state);
    const { scores } = scene.scores(shown[0]);
    if (!scores) return [];
    const classes = scene.models[shown[0]].classes;
    const order = [...scores.keys()].sort((one, other) => scores[other] - scores[one]);
    const count = Math.max(1, Math.floor((this.height - 26) / ROW));
    const ranked = order.map((at, rank) => ({ ...scene.classes.get(classes[at]), rank: rank + 1 }));
    const missed = ranked.slice(Math.max(0, count - 3)).filter((each) => each.true || each.label === state.class_).slice(0, 3);
    const found = ranked.slice(0, count - missed.length);
    return [...found, ...missed.filter((each) => !found.some((other) => other.label === each.label))].map((each) => ({
      ...each, scores: shown.map((index) => {
        const at = scene.models[index].classes.indexOf(each.label), { scores: own, before } = scene.scores(index);
        return { score: own?.[at] ?? NaN, before: before?.[at] };
      }),
    }));
  }

  /** Height in pixels of all classes. */
  wanted(state) { return 26 + ROW * (this.scene.models[this.scene.index(state.model)].classes.length || 1); }

  locate() { return null; }

  click(x, y) {
    const row = this.listed?.[Math.floor((y - 22) / ROW)];
    if (row) this.inspector.set({ class_: row.label === this.inspector.state.class_ ? -1 : row.label });
  }

  draw(context, state, theme) {
    const colours = THEMES[theme], width = this.width - 10;
    this.listed = this.rows(state);
    const names = this.scene.shown(state)
      .map((index) => `${this.scene.models[index].label}${this.scene.isEdited(index) ? ", unedited → edited" : ""}`).join(" | ");
    // Where both do not fit, the models matter more: bars with percentages are known for what they are.
    const whole = `predictions · ${names}`, title = fitted(context, whole, width, BOLD) === whole ? whole : names;
    text(context, fitted(context, title, width, BOLD), 4, 13, { colour: colours.ink, font: BOLD });
    this.listed.forEach((row, index) => this.drawRow(context, row, 22 + index * ROW, width, state, colours));
    this.base.setAttribute("aria-label", "Predictions: " + this.listed.map((row) =>
      `${row.name} ${row.scores.map((each) => `${percents(each, " to ")} percent`).join(" and ")}${row.true ? ", a label" : ""}`).join("; "));
  }

  drawRow(context, row, y, width, state, colours) {
    if (row.label === state.class_) {
      context.fillStyle = colours.faint;
      context.fillRect(0, y, this.width, ROW - 2);
    }
    const percent = row.scores.map((each) => percents(each, " → ")).join(" | ") + " %";
    context.font = FONT;
    const room = width - context.measureText(percent).width - 12;
    const rank = row.rank > this.listed.length ? ` #${row.rank}` : "";
    const name = `${row.true ? "✓ " : ""}${row.name}${rank}`;
    text(context, fitted(context, name, room, row.true ? BOLD : FONT), 4, y + 12, { colour: colours.ink, font: row.true ? BOLD : FONT });
    text(context, percent, width, y + 12, { colour: colours.muted, align: "right" });
    const bars = row.scores.flatMap(({ score, before }) => (before === undefined ? [score] : [before, score]));
    const edited = row.scores.some(({ before }) => before !== undefined), step = bars.length > 2 ? 4 : 5;
    bars.forEach((score, index) => {
      const height = bars.length > 1 ? step - 1 : 8, top = y + 17 + index * step;
      context.fillStyle = colours.faint;
      context.fillRect(4, top, width - 4, height);
      context.fillStyle = row.true ? colours.yes : colours.other;
      context.globalAlpha = (edited ? index !== 1 : index) ? 0.6 : 1;
      if (score > 0) context.fillRect(4, top, (width - 4) * score, height);
      context.globalAlpha = 1;
    });
  }

  drawOverlay() {}
}

/** Percentages as words, of both passes where one is edited. */
function percents({ score, before }, between) {
  const words = (value) => (Number.isNaN(value) ? "–" : (100 * value).toFixed(1));
  return before === undefined ? words(score) : `${words(before)}${between}${words(score)}`;
}
