/** A class of many, found by a part of its name. */

import { create } from "./drawing.js";

const MOST_CLASSES = 60; // classes that are listed at once
const NO_CLASS = -1;

/** A field with a list below it: of the classes whose names hold what is typed, the likeliest first. */
export class ClassSearch {
  /** @param {Inspector} inspector */
  constructor(inspector) {
    Object.assign(this, { inspector, shown: [], marked: 0 });
    const id = `classes-${Math.random().toString(36).slice(2)}`;
    this.field = create("input", { type: "search", role: "combobox", "aria-label": "class", "aria-expanded": "false", "aria-controls": id,
      "aria-autocomplete": "list", autocomplete: "off", spellcheck: "false", placeholder: "none: type to search",
      focus: () => { this.field.select(); this.openAtChosen(); }, click: () => this.openAtChosen(), input: () => this.open(this.field.value),
      keydown: (event) => this.press(event), blur: () => this.close() });
    this.list = create("ul", { role: "listbox", id, "aria-label": "names of a class" });
    this.list.hidden = true;
    this.element = create("div", { class: "control search" }, create("span", { class: "label", "aria-hidden": "true" }, "class"), this.field, this.list);
  }

  update(state) {
    this.element.hidden = !this.inspector.scene.clip.classes.length;
    if (!this.list.hidden) return;
    this.field.value = this.inspector.scene.classes.get(state.class_)?.name ?? "";
  }

  /** Classes whose names or numbers hold some words, the likeliest of the model that is shown first. */
  matches(words) {
    const { scene, state } = this.inspector, index = scene.index(state.model), { scores } = scene.scores(index);
    const score = new Map(scene.models[index].classes.map((label, at) => [label, scores?.[at] ?? 0])), wanted = words.trim().toLowerCase();
    return scene.clip.classes.map((each) => ({ ...each, score: score.get(each.label) }))
      .filter(({ name, label }) => name.toLowerCase().includes(wanted) || String(label) === wanted)
      .sort((one, other) => (other.score ?? -1) - (one.score ?? -1));
  }

  /** All classes, the chosen one marked. */
  openAtChosen() {
    if (!this.list.hidden) return;
    this.open("");
    this.mark(Math.max(0, this.shown.findIndex(({ label }) => label === this.inspector.state.class_)));
  }

  open(words) {
    const matches = this.matches(words), none = { label: NO_CLASS, name: "none" };
    this.shown = [...(words.trim() ? [] : [none]), ...matches.slice(0, MOST_CLASSES)];
    const more = matches.length > MOST_CLASSES ? `${matches.length - MOST_CLASSES} more: type on` : this.shown.length ? "" : "no class of that name";
    this.list.replaceChildren(...this.shown.map((each, at) => this.option(each, at)),
      ...(more ? [create("li", { class: "more", role: "presentation" }, more)] : []));
    this.list.hidden = false;
    this.field.setAttribute("aria-expanded", "true");
    this.mark(0);
  }

  option({ label, name, score, true: there }, at) {
    const percent = score === undefined ? "" : `${(100 * score).toFixed(1)} %`;
    return create("li", { role: "option", id: `${this.list.id}-${at}`, "data-value": label,
      pointerdown: (event) => { event.preventDefault(); this.choose(at); } },
    create("span", {}, `${there ? "✓ " : ""}${name}`), create("span", { class: "label" }, percent));
  }

  mark(at) {
    this.marked = at;
    const options = [...this.list.querySelectorAll("[role=option]")];
    options.forEach((each, place) => each.setAttribute("aria-selected", String(place === at)));
    this.field.setAttribute("aria-activedescendant", options[at]?.id ?? "");
    options[at]?.scrollIntoView({ block: "nearest" });
  }

  press(event) {
    const { key } = event, count = this.shown.length;
    if (key === "ArrowDown" || key === "ArrowUp") {
      if (this.list.hidden) this.openAtChosen();
      else if (count) this.mark((this.marked + (key === "ArrowDown" ? 1 : count - 1)) % count);
    } else if (key === "Enter") {
      if (!this.list.hidden) this.choose(this.marked);
    } else if (key === "Escape") this.close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  choose(at) {
    const chosen = this.shown[at];
    if (!chosen) return;
    this.inspector.set({ class_: chosen.label });
    this.close();
  }

  /** Leave what is chosen as it is. */
  close() {
    this.list.hidden = true;
    this.field.setAttribute("aria-expanded", "false");
    this.update(this.inspector.state);
  }
}
