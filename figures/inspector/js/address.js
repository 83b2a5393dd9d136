/** The view in the address of a page of its own, so that a reload or a copied address shows it again. */

import { TRAITS } from "./state.js";

const REST = 300; // milliseconds without a change: a browser refuses many addresses in a short time, and each takes it a while
const KEPT_EDITS = "edits"; // that an address may hold beside the traits
const NUMBERS = ["frame", "layer", "head", "class_"];

/** A part of the address for each trait that is not as it was at first, and for what others keep there. */
export class Address {
  /** @param {Inspector} inspector */
  constructor(inspector) {
    Object.assign(this, { inspector, start: inspector.state, others: new Map(), waiting: 0, problem: "" });
    this.usable = location.protocol !== "about:"; // a page that is an attribute of another has no address of its own
    if (!this.usable) return;
    this.read = () => { this.take(); };
    window.addEventListener("hashchange", this.read);
    this.take();
  }

  /** Parts of the address by name. */
  get parts() { return new Map(new URLSearchParams(location.hash.slice(1).replace(/\+/g, "%2B"))); }

  /** Show what the address says; what this page does not have is said. */
  take() {
    const { inspector, problem: before } = this, asked = Object.fromEntries([...this.parts].filter(([name]) => TRAITS.includes(name)).map(([name, words]) => [name, valueOf(name, words)]));
    if (Object.keys(asked).length) inspector.set({ ...this.start, ...asked });
    const missed = Object.keys(asked).filter((name) => `${asked[name]}` !== `${inspector.state[name]}`);
    const unknown = [...this.parts.keys()].filter((name) => name && name !== KEPT_EDITS && !TRAITS.includes(name));
    this.problem = [...missed.map((name) => `the address says ${name}=${this.parts.get(name)}, which is not here; ${name} is ${inspector.state[name]}`),
      ...unknown.map((name) => `the address says ${name}, which is no part of a view`)].join(" · ");
    if (this.problem === before && !Object.keys(asked).length) return; // what is shown stands
    inspector.controlled = "";
    inspector.schedule();
  }

  /** Keep something beside the view; nothing of an empty text. */
  keep(name, words) {
    this.others.set(name, words);
    this.write();
  }

  /** Write the view once it rests: while the cursor moves there is nothing to keep. */
  write() {
    if (!this.usable) return;
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.writeNow(), REST);
  }

  writeNow() {
    const { state } = this.inspector, parts = new Map();
    for (const name of TRAITS) if (`${state[name]}` !== `${this.start[name]}`) parts.set(name, `${state[name]}`);
    const edits = this.others.get(KEPT_EDITS) ?? this.parts.get(KEPT_EDITS);
    if (edits) parts.set(KEPT_EDITS, edits);
    const hash = [...parts].map(([name, words]) => `${name}=${encodeURIComponent(words).replace(/%2C/g, ",")}`).join("&");
    if (hash !== location.hash.slice(1)) history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  }

  close() {
    clearTimeout(this.waiting);
    if (this.usable) window.removeEventListener("hashchange", this.read);
  }
}

/** The value of a trait of its text. */
function valueOf(name, words) {
  if (name === "span") return words.split(",").map(Number);
  if (name === "pinned") return words === "true";
  return NUMBERS.includes(name) ? Number(words) : words;
}
