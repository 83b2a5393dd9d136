/** The engine of a notebook: the kernel makes the edited pass. */

import { Payload } from "./payload.js";

let asked = 0;

/** Answers come as payloads, under the number of the question; several views of one widget each take their own. */
export class KernelEngine {
  /** @param {object} widget of anywidget @param {string} model name of the model */
  constructor(widget, model) {
    Object.assign(this, { widget, model, waiting: new Map(), view: Math.random().toString(36).slice(2) });
    this.take = (message, buffers) => this.taken(message, buffers);
    widget.on("msg:custom", this.take);
  }

  /** See docs/inspector_payload.md. */
  answer(edits, shown) { return this.ask({ kind: "edits", edits, shown }); }

  refusals(edits) { return this.ask({ kind: "refusals", edits }); }

  /** Explanations of a class. @param {number} label of the class @param {string[]} methods */
  explain(label, methods) { return this.ask({ kind: "explanation", class: label, methods }); }

  ask(question) {
    const id = `${this.view}-${++asked}`;
    this.widget.send({ id, model: this.model, ...question });
    return new Promise((resolve, reject) => { this.waiting.set(id, { resolve, reject }); });
  }

  taken({ kind, id, error, refusals }, buffers) {
    const question = kind === "answer" && this.waiting.get(id);
    if (!question) return;
    this.waiting.delete(id);
    if (error) { question.reject(new Error(error)); return; }
    if (refusals) { question.resolve(refusals); return; }
    const { buffer, byteOffset, byteLength } = buffers[0], payload = new Payload(buffer.slice(byteOffset, byteOffset + byteLength));
    const { logits, probabilities, ...variables } = Object.fromEntries(Object.keys(payload.header.arrays).map((name) => [name, payload.array(name)]));
    question.resolve({ logits, probabilities, variables, header: payload.header });
  }

  close() { this.widget.off("msg:custom", this.take); }
}
