/** Passes that engines make without edits: what edited ones are compared with, and maps that a file leaves to its engine. */

import { Questions } from "./edited_pass.js";

export class UneditedPasses {
  /** @param {(pass: EditedPass) => void} answered @param {(error: Error) => void} failed */
  constructor(answered, failed) { Object.assign(this, { answered, failed, entries: new Map() }); }

  /** Ask an engine for what is lacking of its pass. @param {object} engine @param {string[]} names of maps; none: the logits alone */
  ask(engine, names) {
    const { pass, failed, questions } = this.entry(engine);
    if (!failed && (!pass || names.some((name) => pass.lacks(name)))) questions.ask(engine, [], names);
  }

  /** The pass of a model, as far as it was asked for. @returns {?EditedPass} */
  of(model) { return this.entries.get(model)?.pass ?? null; }

  /** Whether an answer is awaited. */
  get busy() { return [...this.entries.values()].some(({ questions }) => questions.open); }

  entry(engine) {
    const known = this.entries.get(engine.model);
    if (known?.engine === engine) return known;
    const entry = { engine, pass: null, failed: false };
    entry.questions = new Questions((pass) => {
      if (entry.pass) pass.join(entry.pass);
      entry.pass = pass;
      this.answered(pass);
    }, (error) => {
      entry.failed = true;
      this.failed(error);
    });
    this.entries.set(engine.model, entry);
    return entry;
  }
}
