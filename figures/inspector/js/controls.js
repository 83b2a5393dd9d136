/** What stands above and below the panels. */

import { clock, shellQuoted } from "./words.js";
import { SCALES } from "./colours.js";
import { create } from "./drawing.js";
import { ClassSearch } from "./class_search.js";

/** One of a few: a row of buttons. `options` gives [value, words, hint] for a state. */
class Choice {
  constructor(inspector, name, label, options) {
    Object.assign(this, { inspector, name, options, made: "" });
    this.group = create("div", { class: "choice", role: "radiogroup", "aria-label": label });
    this.element = create("div", { class: "control" }, create("span", { class: "label", "aria-hidden": "true" }, label), this.group);
  }

  update(state) {
    const options = this.options(state);
    this.element.hidden = options.length < 2;
    const made = JSON.stringify(options);
    if (made !== this.made) {
      this.made = made;
      this.group.replaceChildren(...options.map(([value, words, hint]) => create("button", {
        type: "button", role: "radio", "data-value": value, title: hint,
        "aria-label": hint ?? words, click: () => this.inspector.set({ [this.name]: value }),
      }, words)));
    }
    for (const button of this.group.children) {
      button.setAttribute("aria-checked", String(button.dataset.value === String(state[this.name])));
    }
  }
}

/** One of many: a list that opens. */
class List {
  constructor(inspector, name, label, options) {
    Object.assign(this, { name, options, made: "" });
    this.select = create("select", { "aria-label": label, change: () => inspector.set({ [name]: this.select.value }) });
    this.element = create("label", { class: "control" }, create("span", { class: "label" }, label), this.select);
  }

  update(state) {
    const options = this.options(state);
    this.element.hidden = options.length < 2;
    const made = JSON.stringify(options);
    if (made !== this.made) {
      this.made = made;
      this.select.replaceChildren(...options.map(([value, words]) => create("option", { value }, words)));
    }
    this.select.value = String(state[this.name]);
  }
}

export const KEYS = "← → frame (Shift: 10) · ↑ ↓ head · space plays · Enter pins · drag zooms, double-click or Esc resets · "
  + "+ − zoom · M modality · L layer · B branch · A all heads · S scale · D difference";

/** Everything above and below the panels. */
export class Controls {
  constructor(inspector) {
    this.inspector = inspector;
    const { scene } = inspector;
    const same = (values) => values.map((value) => [value, value]);
    const models = [...new Map(scene.models.map((model) => [model.name, model.label]))];
    this.parts = [
      new List(inspector, "model", "model", () => models),
      new List(inspector, "against", "against", (state) => (models.length < 2 ? []
        : [["", "none"], ...models.filter(([name]) => name !== state.model)])),
      new Choice(inspector, "view", "compare", (state) => (state.against
        ? [["side", "side by side"], ["difference", "difference"]] : [])),
      new Choice(inspector, "modality", "modality", (state) => same(scene.models[scene.index(state.model)].modalities)),
      new Choice(inspector, "layer", "layer", (state) => scene.layers(state.model).map((layer) => [layer, `${layer}`, `layer ${layer}`])),
      new Choice(inspector, "branch", "branch", (state) => same(scene.branches(state.model, state.modality))),
      new Choice(inspector, "head", "head", (state) => this.heads(state)),
      new Choice(inspector, "scale", "scale", (state) => (scene.heads(state.model, state.modality, state.branch).length
        ? Object.entries(SCALES) : [])),
      new Choice(inspector, "left", "beside", (state) => same(scene.lefts(state))),
      new List(inspector, "explanation", "explanation", (state) => same(scene.explanations(state.model))),
      new ClassSearch(inspector),
    ];
    this.makeHead();
    this.makeFoot();
  }

  heads(state) {
    const heads = this.inspector.scene.heads(state.model, state.modality, state.branch);
    if (heads.length < 2) return heads.map((head) => [head, `${head}`]);
    return [...heads.map((head) => [head, `${head}`, `head ${head}`]), [-1, "all", "all heads"]];
  }

  makeHead() {
    const { inspector } = this, { clip } = inspector.scene;
    const button = (words, label, click) => create("button", { type: "button", title: label, "aria-label": label, click }, words);
    this.play = button("▶", "Play (space)", () => inspector.play());
    this.themeButton = button("◐", "Light or dark", () => inspector.set({ theme: inspector.theme() === "dark" ? "light" : "dark" }));
    this.link = create("a", { target: "_blank", rel: "noopener noreferrer", class: "link" });
    this.link.hidden = !clip.url;
    const { scene } = inspector, from = scene.origin ? ` from ${clock(scene.origin)}` : "";
    const seconds = `${clock(scene.end() - (scene.seconds[0] ?? 0))}${from}`;
    const cut = clip.clip_frames > clip.frames ? `, the first ${clip.frames} of ${clip.clip_frames} frames` : "";
    this.title = create("div", { class: "title" }, create("strong", {}, clip.id || "clip"),
      create("span", { class: "labels" }, ` ${seconds}${cut} · ${clip.labels.length ? `labels: ${clip.labels.join(", ")}` : "no labels"}${clip.foreign && ` (${clip.foreign})`}`),
      ...scene.models.filter((model) => model.edits.length).map((model) => create("span", { class: "labels" }, ` · ${model.label}: ${model.edits.join("; ")}`)));
    this.note = create("div", { class: "notice", role: "status" });
    const tools = create("div", { class: "tools", role: "group", "aria-label": "Save and settings" }, this.link,
      button("PNG", "Save this view as PNG", () => inspector.savePng()),
      button("SVG", "Save this view as SVG", () => inspector.saveSvg()),
      this.csvMenu(),
      button("Python", "Copy Python that reproduces this view", () => this.copy(inspector.python())), this.themeButton);
    this.head = create("header", {}, create("div", { class: "row" }, this.title, tools),
      create("div", { class: "row controls", role: "toolbar", "aria-label": "What is shown" }, ...this.parts.map((part) => part.element)), this.note);
  }

  /** Which table of what is shown to save. */
  csvMenu() {
    const { inspector } = this, menu = create("select", { class: "menu", "aria-label": "Save what is shown as CSV", title: "Save what is shown as CSV", change: () => {
      const { value } = menu;
      menu.value = "";
      inspector.saveCsv(value);
    } }, create("option", { value: "", hidden: true }, "CSV"),
    ...Object.entries(inspector.tables).map(([value, { words }]) => create("option", { value }, words)));
    return menu;
  }

  makeFoot() {
    const { inspector } = this, { scene } = inspector;
    this.slider = create("input", { type: "range", min: 0, max: Math.max(0, scene.frames - 1), step: 1, "aria-label": "Frame",
      input: () => inspector.set({ frame: Number(this.slider.value) }) });
    this.readout = create("output", { class: "readout", role: "status", "aria-live": "polite" });
    const precision = scene.payload.header.precision === "float32" ? "weights exactly as in the record (float32)"
      : "weights to 11 bits, about 3 digits (float16)";
    this.ask = create("div", { class: "ask", role: "status" });
    this.code = create("textarea", { class: "code", readonly: true, rows: 9, "aria-label": "What was copied" });
    this.code.hidden = true;
    this.foot = create("footer", {}, this.ask, create("div", { class: "row" }, this.play, inspector.playback.element, this.slider, this.readout), this.code,
      ...inspector.scene.clip.left_out ? [create("div", { class: "hint", role: "status" }, inspector.scene.clip.left_out)] : [],
      ...(inspector.scene.clip.classes.some(({ name }) => /^label \d+$/.test(name))
        ? [create("div", { class: "hint" }, "label N: class N of the data set, which its vocabulary gives no name")] : []),
      create("div", { class: "hint" }, `${KEYS} · ${precision}`));
  }

  update(state) {
    const { scene } = this.inspector;
    this.parts.forEach((part) => part.update(state));
    this.slider.value = String(state.frame);
    this.slider.setAttribute("aria-valuetext", scene.clock(state.frame));
    this.play.textContent = state.playing ? "❚❚" : "▶";
    this.askForClass(state);
    this.note.textContent = this.inspector.address?.problem ?? "";
    this.note.hidden = !this.note.textContent;
    if (scene.clip.url) {
      this.link.href = scene.address(state.frame);
      this.link.textContent = `video at ${scene.clock(state.frame)} ↗`;
    }
  }

  /** Where the class that is chosen is not the one explained: what explains it. */
  askForClass(state) {
    const { scene } = this.inspector, name = scene.classes.get(state.class_)?.name;
    const models = scene.shown(state).map((index) => scene.models[index]);
    if (name && this.offerExplanation(state, name)) return;
    const other = models.find(({ explained, classes }) => explained && explained !== name && classes.includes(state.class_));
    this.ask.hidden = !other;
    if (!other) return;
    const code = (words) => create("code", {}, words);
    const command = scene.clip.argument && `gmsa inspect ${scene.clip.argument} --model ${models[0].argument}`
      + `${models[1] ? ` --against ${models[1].argument}` : ""} --explain --target ${shellQuoted(name)}`;
    const python = `inspect_clip(model, clip, parts=[*DEFAULT_PARTS, "explanation"], target=model.vocabulary.find(${JSON.stringify(name)}))`;
    this.ask.replaceChildren(`This record explains ${other.explained}. To explain ${name}: `,
      ...(command ? [code(command), " or in Python "] : []), code(python));
  }

  /** Offer to explain the class that is chosen, where an engine can. @returns {boolean} whether something is said */
  offerExplanation(state, name) {
    const { explained } = this.inspector, { waiting, problem } = explained, offered = explained.open(state).length > 0;
    this.ask.hidden = !offered;
    if (!offered) return false;
    const click = () => { explained.ask(state); };
    const button = create("button", { type: "button", disabled: Boolean(waiting), click }, waiting ? `explaining ${waiting} …` : `explain ${name} by ${explained.method(state)}`);
    this.ask.replaceChildren(button, ...(problem ? [create("span", { class: "problem" }, ` ${problem}`)] : []));
    return true;
  }

  /** Copy words, and show them, so that they can be had where a page may not write to the clipboard; again to hide them. */
  async copy(words) {
    this.code.hidden = !this.code.hidden && this.code.value === words;
    this.code.value = words;
    if (this.code.hidden) return;
    this.code.focus();
    this.code.select();
    try { await navigator.clipboard.writeText(this.code.value); } catch { this.code.select(); }
  }
}
