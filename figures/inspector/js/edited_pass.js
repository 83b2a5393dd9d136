/** The edited pass: asked of an engine, one question at a time, and its values. */

import { withoutNumber } from "./edits.js";

/** What an engine answered. @typedef {{logits: ArrayLike<number>, probabilities: ArrayLike<number>, variables: Object<string, ArrayLike<number>>}} Answer */

let passes = 0;

/** Values of one edited pass, under the names that the payload has them by. */
export class EditedPass {
  /** @param {string} model @param {string[]} edits @param {Answer} answer @param {string[]} shown names of maps that were asked for */
  constructor(model, edits, answer, shown) {
    Object.assign(this, { model, edits, answer, shown: new Set(shown), number: ++passes });
  }

  has(name) { return name in this.answer.variables; }

  array(name) { return this.answer.variables[name] ?? null; }

  /** Take what an earlier answer to the same edits had too. @param {EditedPass} earlier */
  join(earlier) {
    this.answer = { ...this.answer, variables: { ...earlier.answer.variables, ...this.answer.variables } };
    earlier.shown.forEach((name) => this.shown.add(name));
  }

  /** Whether a map has not been asked for yet. */
  lacks(name) { return !this.has(name) && !this.shown.has(name); }
}

/** Questions to an engine: one at a time, and of those that come meanwhile the newest. */
export class Questions {
  /** @param {(pass: EditedPass) => void} answered @param {(error: Error) => void} refused */
  constructor(answered, refused) { Object.assign(this, { answered, refused, open: null, next: null }); }

  /** @param {object} engine @param {string[]} edits @param {string[]} shown names of the maps that the view shows */
  ask(engine, edits, shown) {
    const question = { engine, edits, shown, key: JSON.stringify([engine.model, edits, shown]) };
    const awaited = this.next ?? this.open;
    if (awaited?.key === question.key) return void (awaited.dropped = false);
    this.next = question;
    if (!this.open) this.send();
  }

  /** Forget what was asked: no answer to it is wanted. */
  drop() {
    this.next = null;
    if (this.open) this.open.dropped = true;
  }

  async send() {
    const question = this.next;
    Object.assign(this, { open: question, next: null });
    const { engine, edits, shown } = question, began = performance.now();
    let pass = null, error = null;
    try { pass = new EditedPass(engine.model, edits, await engine.answer(edits, shown), shown); } catch (reason) { error = reason; }
    this.open = null;
    this.milliseconds = performance.now() - began;
    const stale = question.dropped || (this.next && !onTheWay(question, this.next));
    if (this.next) this.send();
    if (stale) return;
    if (pass) this.answered(pass);
    else this.refused(error);
  }
}

/** Whether an answer is worth showing though another is awaited: a slider passes there, or only more maps were asked for. */
function onTheWay(question, next) {
  const key = ({ engine, edits }) => JSON.stringify([engine.model, edits.map(withoutNumber)]);
  return key(question) === key(next);
}
