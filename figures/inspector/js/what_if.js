/** Edits of the pass: which there are, what an engine answers, and what of that is shown. */

import { formatNumber } from "./words.js";
import { Questions } from "./edited_pass.js";
import { UneditedPasses } from "./unedited.js";
import { EditList, encodeEdits, decodeEdits } from "./edit_list.js";
import { WhatIfBar } from "./what_if_bar.js";

const SAME_SCORE = 0.01; // of probabilities: rounding of weights may change them, other weights do by more
const EDITS = "edits"; // their part of the address

export class WhatIf {
  /** @param {Inspector} inspector */
  constructor(inspector) {
    const questions = new Questions((pass) => this.answered(pass), (error) => this.refused(error));
    const unedited = new UneditedPasses((pass) => this.answeredUnedited(pass), (error) => this.fail(error));
    Object.assign(this, { inspector, questions, unedited, engines: new Map(), pass: null, drag: "zoom", notify: () => {}, inAddress: null,
      problem: "", note: "", refusals: { key: "", messages: [] }, failedKey: "", known: [], checking: 0 });
    inspector.scene.unedited = unedited;
    this.list = new EditList(() => this.changed());
    this.bar = new WhatIfBar(this);
  }

  /** Take an engine, in place of one of the same model. */
  attach(engine) { this.engines.set(engine.model, engine); }

  /** The engine of the model that is shown first. */
  get engine() { return this.engines.get(this.inspector.state.model); }

  /** The model whose pass the record shown first has with edits, where an engine makes that pass; else null. */
  get plainModel() {
    const { scene, state } = this.inspector, { edits } = scene.models[scene.index(state.model)], name = state.model.replace(/@edited$/, "");
    return edits.length && this.engines.has(name) && scene.index(name) >= 0 ? scene.models[scene.index(name)] : null;
  }

  /** Show that model, with the record's edits in the list. */
  editPlain() {
    const { inspector, plainModel: { name } } = this, { edits } = inspector.scene.models[inspector.scene.index(inspector.state.model)];
    inspector.set({ model: name, pass: "edited" });
    this.list.set(edits.map((edit) => ({ edit, on: true })));
  }

  /** Whether a drag selects, and does not zoom; Shift is the other way round. */
  selects(event) { return Boolean(this.engine) && (this.drag === "select") !== event.shiftKey; }

  /** Whether an answer is awaited. */
  get busy() { return Boolean(this.questions.open || this.questions.next || this.checking || this.unedited.busy); }

  /** Which edits are on, of which model. */
  get listKey() { return JSON.stringify([this.engine?.model, this.list.texts]); }

  /** Why each of the edits that are on cannot be made; empty texts where it can. @returns {string[]} */
  get messages() { return this.refusals.key === this.listKey ? this.refusals.messages : this.list.texts.map(() => ""); }

  /** Texts of the edits that are made: those that are on, without those that were refused. */
  get made() { return this.list.texts.filter((_, at) => !this.messages[at]); }

  /** What is wrong, in one line; an empty text where nothing is. */
  get alert() {
    const refused = this.messages.filter(Boolean), more = refused.length > 1 ? ` (and ${refused.length - 1} more that cannot be made)` : "";
    return [this.note, this.problem, this.bar.complaint, refused.length ? `${refused[0]}${more}` : ""].filter(Boolean).join(" · ");
  }

  /** Ask for what the view shows of the edited pass, and say which pass that is. @param {State} state */
  follow(state) {
    const { engine, made, inspector: { scene } } = this, shown = scene.shownMaps(state);
    const key = JSON.stringify([engine?.model, made]), same = this.pass?.key === key;
    if (!engine || !made.length) this.questions.drop();
    else if (key !== this.failedKey && (!same || shown.some((name) => this.pass.lacks(name)))) this.questions.ask(engine, made, shown);
    scene.answered = engine && made.length && this.pass?.model === engine.model ? this.pass : null;
    scene.edited = state.pass === "unedited" ? null : scene.answered;
    this.followUnedited(state);
  }

  /** Ask for what is needed of passes without edits: maps that the file leaves to an engine, and what edits are compared with. */
  followUnedited(state) {
    const { scene } = this.inspector;
    scene.shown(state).forEach((index, order) => {
      const engine = this.engines.get(scene.models[index].name), compared = order === 0 && scene.answered;
      const names = scene.shownMaps(state, index).filter((name) => scene.leftToEngine(name) || (compared && state.pass === "change"));
      if (engine && (names.length || compared)) this.unedited.ask(engine, names);
    });
  }

  answered(pass) {
    pass.key = JSON.stringify([pass.model, pass.edits]);
    if (this.pass?.key === pass.key) pass.join(this.pass);
    Object.assign(this, { pass, failedKey: "" });
    this.show();
  }

  /** Edits that an engine refused together: which of them it is, so that the others are made. */
  async refused(error) {
    const { engine, list: { texts }, listKey, made } = this;
    if (!engine) return;
    this.failedKey = JSON.stringify([engine.model, made]); // is not asked again meanwhile
    this.checking += 1;
    let messages = [];
    try { messages = await engine.refusals(texts); } catch (reason) { error = reason; }
    this.checking -= 1;
    if (listKey !== this.listKey) { // another model or list meanwhile: what it asks is not held back by this refusal
      this.failedKey = "";
      return this.show();
    }
    if (messages.some((message, at) => message && !this.messages[at])) this.refusals = { key: listKey, messages: messages.map(oneLine) };
    else Object.assign(this, { pass: null, problem: oneLine(error) });
    this.notify(this.made);
    this.show();
  }

  fail(error) {
    this.problem = oneLine(error);
    this.show();
  }

  changed() {
    const { inspector } = this, { texts } = this.list, added = texts.some((edit) => !this.known.includes(edit));
    Object.assign(this, { problem: "", note: "", failedKey: "", known: texts });
    if (!texts.length) this.pass = null;
    if (added && inspector.state.pass === "unedited") inspector.set({ pass: "edited" }); // what was added is seen
    this.inAddress?.keep(EDITS, this.list.entries.length ? encodeEdits(this.list.entries) : "");
    this.notify(this.made);
    this.show();
  }

  show() {
    const { inspector } = this;
    this.follow(inspector.state);
    this.bar.update(inspector.state);
    inspector.schedule();
  }

  /** Draw anew what waited for the pass; say so if it is not the record's. */
  answeredUnedited(pass) {
    const { inspector } = this, { scene } = inspector, recorded = scene.payload.array(`${scene.index(pass.model)}/score`);
    const off = recorded?.reduce((most, score, at) => Math.max(most, Math.abs(score - pass.answer.probabilities[at])), 0) ?? 0;
    if (off > SAME_SCORE) this.problem = `without edits this engine's probabilities are up to ${formatNumber(off, 2)} from the record's: it is of other weights or frames`;
    inspector.panels.forEach((panel) => { panel.drawn = ""; });
    this.show();
  }

  /** The class that is chosen, else the likeliest without edits: what the edits do to it. @returns {string} */
  effect(state) {
    const { scene } = this.inspector, index = scene.index(state.model), { answered } = scene;
    const before = scene.payload.array(`${index}/score`), { classes } = scene.models[index];
    if (!answered || !before) return "";
    const chosen = classes.indexOf(state.class_), at = chosen >= 0 ? chosen : before.indexOf(Math.max(...before));
    const logits = this.unedited.of(state.model)?.answer.logits, change = logits && answered.answer.logits[at] - logits[at];
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

  /** Keep the edits in the page's address, and take those that are there. @param {Address} address */
  keepInAddress(address) {
    this.inAddress = address;
    const read = () => {
      const words = address.parts.get(EDITS);
      if (!words) return;
      try { this.list.set(decodeEdits(JSON.parse(words))); } catch (error) {
        this.problem = `the address holds no edits: ${oneLine(error)}`;
        this.bar.update(this.inspector.state);
      }
    };
    window.addEventListener("hashchange", read);
    this.destroy = () => window.removeEventListener("hashchange", read);
    read();
  }

  destroy() {}
}

function oneLine(error) { return String(error?.message ?? error).replace(/\s+/g, " ").trim(); }
