/** The list of edits: what is on, what was done and can be undone, and the list as one text. */

import { withoutNumber } from "./edits.js";

const OFF_MARK = "off ";

/** Edits in their order, each on or off. @typedef {{edit: string, on: boolean}} Entry */
export class EditList {
  /** @param {() => void} changed called after every change */
  constructor(changed) { Object.assign(this, { changed, entries: [], past: [], future: [] }); }

  /** Texts of the edits that are on. */
  get texts() { return this.entries.filter(({ on }) => on).map(({ edit }) => edit); }

  /** @param {Entry[]} entries */
  set(entries) {
    if (encodeEdits(entries) === encodeEdits(this.entries)) return;
    this.past.push(this.entries);
    Object.assign(this, { entries, future: [] });
    this.changed();
  }

  add(edit) { this.set([...this.entries, { edit, on: true }]); }

  /** Put an edit in place of the last one if the two differ in a number only, without a step of its own to undo. */
  adjust(edit) {
    const last = this.entries.at(-1);
    if (!last || withoutNumber(last.edit) !== withoutNumber(edit)) { this.add(edit); return; }
    this.entries = [...this.entries.slice(0, -1), { edit, on: true }];
    this.future = [];
    this.changed();
  }

  turn(index) { this.set(this.entries.map((each, at) => (at === index ? { ...each, on: !each.on } : each))); }

  remove(index) { this.set(this.entries.filter((_, at) => at !== index)); }

  undo() { this.step(this.past, this.future); }

  redo() { this.step(this.future, this.past); }

  step(from, to) {
    if (!from.length) return;
    to.push(this.entries);
    this.entries = from.pop();
    this.changed();
  }
}

/** A list as JSON: a text an edit, with "off " before those that are off. @param {Entry[]} entries */
export function encodeEdits(entries) { return JSON.stringify(entries.map(({ edit, on }) => (on ? edit : OFF_MARK + edit))); }

/** @param {unknown} texts @returns {Entry[]} @throws {Error} if these are no edits */
export function decodeEdits(texts) {
  if (!Array.isArray(texts) || !texts.every((each) => typeof each === "string" && each.trim())) {
    throw new Error(`edits are ${JSON.stringify(texts)?.slice(0, 60)}; expected a list of texts`);
  }
  return texts.map((each) => (each.startsWith(OFF_MARK) ? { edit: each.slice(OFF_MARK.length), on: false } : { edit: each, on: true }));
}
