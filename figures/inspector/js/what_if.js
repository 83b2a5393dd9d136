/** Edits of the pass: which there are, what an engine answers, and what of that is shown. */

import { formatNumber } from "./words.js";
import { EditedPass, Questions } from "./edited_pass.js";
import { EditList, encodeEdits, decodeEdits } from "./edit_list.js";
import { WhatIfBar } from "./what_if_bar.js";

const SAME_SCORE = 0.01; // of probabilities: rounding of weights may change them, other weights do by more
const EDITS_HASH = "#edits=";
const BETWEEN_ADDRESSES = 300; // milliseconds: a browser refuses many changes of the address in a short time

export class WhatIf {
  /** @param {Inspector} inspector */
  constructor(inspector) {
    const questions = new Questions((pass) => this.answered(pass), (error) => this.refused(error));
    Object.assign(this, { inspector, questions, engines: new Map(), unedited: new Map(), pass: null, problem: "", refusedKey: "",
      drag: "zoom", notify: () => {}, inAddress: false, writing: 0 });
    this.list = new EditList(() => this.changed());
    this.bar = new WhatIfBar(this);
  }

  /** Take an engine, in place of one of the same model. */
  attach(engine) { this.engines.set(engine.model, engine); }

  /** The engine of the model that is shown first. */
  get engine() { return this.engines.get(this.inspector.state.model); }

  /** Whether a drag selects, and does not zoom; Shift is the other way round. */
  selects(event) { return Boolean(this.engine) && (this.drag === "select") !== event.shiftKey; }

  /** Ask for what the view shows of the edited pass, and say which pass that is. @param {State} state */
  follow(state) {
    const { engine, inspector: { scene } } = this, { texts } = this.list, shown = scene.shownMaps(state);
    const key = JSON.stringify([engine?.model, texts]), same = this.pass?.key === key;
    if (!engine || !texts.length) this.questions.drop();
    else if (key !== this.refusedKey && (!same || shown.some((name) => this.pass.lacks(name)))) this.questions.ask(engine, texts, shown);
    scene.answered = engine && texts.length && this.pass?.model === engine.model ? this.pass : null;
    scene.edited = state.pass === "unedited" ? null : scene.answered;
  }

  answered(pass) {
    pass.key = JSON.stringify([pass.model, pass.edits]);
    if (this.pass?.key === pass.key) pass.join(this.pass);
    Object.assign(this, { pass, problem: "", refusedKey: "" });
    this.compareUnedited(pass.model);
    this.show();
  }

  refused(error) {
    const { engine, list } = this;
    Object.assign(this, { pass: null, problem: oneLine(error), refusedKey: JSON.stringify([engine?.model, list.texts]) });
    this.show();
  }

  changed() {
    Object.assign(this, { problem: "", refusedKey: "" });
    const { texts } = this.list;
    if (!texts.length) this.pass = null;
    if (this.inAddress) this.writing ||= setTimeout(() => this.writeAddress(), BETWEEN_ADDRESSES);
    this.notify(texts);
    this.show();
  }

  show() {
    const { inspector } = this;
    this.follow(inspector.state);
    this.bar.update(inspector.state);
    inspector.schedule();
  }

  /** Once a model: the engine's own pass without edits, whose logits the record does not say, and whether it is the record's. */
  async compareUnedited(model) {
    const { inspector: { scene } } = this, engine = this.engines.get(model);
    if (this.unedited.has(model) || !engine) return;
    this.unedited.set(model, null);
    try {
      const pass = new EditedPass(model, [], await engine.answer([], []), []);
      this.unedited.set(model, pass);
      const recorded = scene.payload.array(`${scene.index(model)}/score`);
      const off = recorded?.reduce((most, score, at) => Math.max(most, Math.abs(score - pass.answer.probabilities[at])), 0) ?? 0;
      if (off > SAME_SCORE) this.problem = `without edits this engine's probabilities are up to ${formatNumber(off, 2)} from the record's: it is of other weights or frames`;
    } catch (error) { this.problem = oneLine(error); }
    this.bar.update(this.inspector.state);
  }

  /** The class that is chosen, else the likeliest without edits: what the edits do to it. @returns {string} */
  effect(state) {
    const { scene } = this.inspector, index = scene.index(state.model), { answered } = scene;
    const before = scene.payload.array(`${index}/score`), { classes } = scene.models[index];
    if (!answered || !before) return "";
    const chosen = classes.indexOf(state.class_), at = chosen >= 0 ? chosen : before.indexOf(Math.max(...before));
    const logits = this.unedited.get(state.model)?.answer.logits, change = logits && answered.answer.logits[at] - logits[at];
    const percents = [before[at], answered.answer.probabilities[at]].map((score) => (100 * score).toFixed(1)).join(" → ");
    const sign = change > 0 ? "+" : "";
    return `${scene.classes.get(classes[at]).name} ${percents} %${logits ? `, logit ${sign}${formatNumber(change, 3)}` : ""}`;
  }

  /** Undo and redo by key, unless they belong to a field of words. */
  press(event) {
    const undoes = (event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "z";
    if (!undoes || event.target.closest?.("textarea, input[type=text]")) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.shiftKey) this.list.redo(); else this.list.undo();
  }

  writeAddress() {
    const { entries } = this.list;
    this.writing = 0;
    history.replaceState(null, "", entries.length ? EDITS_HASH + encodeURIComponent(encodeEdits(entries)) : location.pathname + location.search);
  }

  /** Keep the edits in the page's address, and take those that are there. */
  keepInAddress() {
    this.inAddress = true;
    const read = () => {
      if (!location.hash.startsWith(EDITS_HASH)) return;
      try { this.list.set(decodeEdits(JSON.parse(decodeURIComponent(location.hash.slice(EDITS_HASH.length))))); } catch (error) {
        this.problem = `the address holds no edits: ${oneLine(error)}`;
        this.bar.update(this.inspector.state);
      }
    };
    window.addEventListener("hashchange", read);
    this.destroy = () => {
      window.removeEventListener("hashchange", read);
      clearTimeout(this.writing);
    };
    read();
  }

  destroy() {}
}

function oneLine(error) { return String(error?.message ?? error).replace(/\s+/g, " ").trim(); }
