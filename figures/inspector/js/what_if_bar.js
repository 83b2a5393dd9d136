/** The controls of edits: where, what, the list of them, and what is done with the list. */

import { create } from "./drawing.js";
import { knockOutText, scaleText, forceGateText, neighbourhoodText, dropText, moveText } from "./edits.js";
import { secondsOf, spanOfText } from "./selection.js";
import { openEdits, saveEdits } from "./share.js";
import { commandOfEdits, pythonOfEdits } from "./python.js";

const EVERY = "*";
const FEW_EDITS = 3; // that stand beside the buttons of the list
const SPANS = { seconds: "seconds", queries: "queries", keys: "keys" };
const EDIT_KEYS = "E what a drag does · [ ] seconds from and to the cursor · O unedited · C change · Ctrl+Z undoes";
const PASSES = [["edited", "edited"], ["change", "change"], ["unedited", "unedited"]];

const actionButton = (words, label, click, more = {}) => create("button", { type: "button", title: label, "aria-label": label, click, ...more }, words);
const labelledControl = (words, ...elements) => create("label", { class: "control" }, create("span", { class: "label" }, words), ...elements);

export class WhatIfBar {
  /** @param {WhatIf} whatIf */
  constructor(whatIf) {
    Object.assign(this, { whatIf, inspector: whatIf.inspector, heads: [], viewed: "", unread: {}, refused: "", typing: null, toTyped: false });
    this.rows = [this.makePlace(), this.makeActions(), this.makeList(), this.makeStatus()];
    this.element = create("section", { class: "whatif", role: "group", "aria-label": "What if: edits of the pass", input: () => this.forget() },
      this.makePlainRow(), ...this.rows);
  }

  /** Which field cannot be read, or why the last edit was not made, in one line; an empty text where nothing is. */
  get complaint() { return Object.values(this.unread)[0] ?? this.refused; }

  /** Say no longer why an edit was not made: something else is written now. */
  forget() {
    if (!this.refused) return;
    this.refused = "";
    this.update(this.inspector.state);
  }

  /** Where an edited pass of the record is shown: its model can be edited, with the same edits to begin with. */
  makePlainRow() {
    this.plainWords = create("span", {});
    this.plainRow = create("div", { class: "row" }, create("strong", {}, "What if"), this.plainWords,
      actionButton("edit it here", "Show the model's own pass with these edits in the list", () => this.whatIf.editPlain()));
    return this.plainRow;
  }

  // -- where

  makePlace() {
    const whole = () => {
      this.unread = {};
      this.inspector.set({ selection: null });
      this.update(this.inspector.state);
    };
    this.drag = actionButton("drag zooms", "What a drag does: zoom, or select (E; Shift for the other)", () => this.turnDrag());
    this.stream = this.list("Stream of the edit");
    this.layer = this.list("Layer of the edit");
    this.branch = this.list("Branch of the edit");
    this.headGroup = create("div", { class: "choice", role: "group", "aria-label": "Heads of the edit; none pressed: all" });
    this.spans = Object.fromEntries(Object.entries(SPANS).map(([name, words]) => [name, create("input", { type: "text", size: 7,
      placeholder: "all", spellcheck: "false", "aria-label": `${words} of the edit, as 45..61`,
      input: () => { this.typing = name; }, change: () => this.typed(name), blur: () => { this.typing = null; } })]));
    this.clear = actionButton("select none", "Select nothing: edits are of all seconds (Esc)", whole);
    return create("div", { class: "row" }, create("strong", {}, "What if"), this.drag, labelledControl("stream", this.stream), labelledControl("layer", this.layer),
      labelledControl("branch", this.branch), create("div", { class: "control" }, create("span", { class: "label", "aria-hidden": "true" }, "heads"), this.headGroup),
      ...Object.entries(this.spans).map(([name, field]) => labelledControl(name, field)), this.clear);
  }

  list(label) { return create("select", { "aria-label": label, change: () => this.update(this.inspector.state) }); }

  turnDrag() {
    this.whatIf.drag = this.whatIf.drag === "zoom" ? "select" : "zoom";
    this.update(this.inspector.state);
  }

  /** A span that was typed; seconds stand alone, queries and keys together. */
  typed(name) {
    const { scene, state } = this.inspector, field = this.spans[name];
    Object.assign(this, { typing: null, refused: "" });
    try {
      const span = spanOfText(field.value, scene.clip.frame_seconds, scene.frames);
      const kept = name === "seconds" ? { queries: null, keys: null } : { queries: null, keys: null, ...state.selection, seconds: null };
      const selection = { seconds: null, ...kept, [name]: span };
      for (const each of name === "seconds" ? Object.keys(SPANS) : [name, ...span ? ["seconds"] : []]) delete this.unread[each];
      this.selected = Object.values(selection).some(Boolean) ? selection : null;
      this.inspector.set({ selection: this.selected });
    } catch (error) { this.unread[name] = error.message; }
    this.update(this.inspector.state);
  }

  /** Do what the controls say; where a field cannot be read nothing is done, and that is said. */
  attempt(act) {
    const before = this.refused;
    this.refused = "";
    try { act(); } catch (error) { this.refused = error.message; }
    if (this.refused !== before) this.update(this.inspector.state);
  }

  /** Where the edit is that the controls say. @returns {Place} @throws {Error} a field cannot be read */
  place() {
    for (const message of Object.values(this.unread)) throw new Error(message);
    const { scene, state } = this.inspector, { frame_seconds: length } = scene.clip;
    const [seconds, queries, keys] = Object.keys(SPANS).map((name) => secondsOf(state.selection?.[name] ?? null, length));
    return { stream: this.stream.value, layer: this.layer.value, branch: this.branch.value, heads: this.heads, seconds, queries, keys };
  }

  // -- what

  makeActions() {
    const { list } = this.whatIf, add = (make) => this.attempt(() => list.add(make()));
    const slider = (label, most, step, value, textOf) => {
      const field = create("input", { type: "range", min: 0, max: most, step, value, "aria-label": label, input: () => this.attempt(() => list.adjust(textOf(Number(field.value)))) });
      return field;
    };
    this.others = create("select", { "aria-label": "Weights that are left after switching off" }, create("option", { value: "grow" }, "others grow"),
      create("option", { value: "stay" }, "others stay"));
    const scale = slider("Scale what the heads hand on", 2, 0.1, 1, (value) => scaleText(this.place(), value));
    const gate = slider("Force the gate of the branch", 1, 0.05, 0.5, (value) => forceGateText(this.place(), value, this.gatesByHead()));
    this.gateName = create("span", { class: "label" });
    this.gate = create("label", { class: "control" }, this.gateName, gate);
    this.drop = actionButton("drop", "Drop the seconds: as padding", () => add(() => dropText(this.place())));
    this.to = create("input", { type: "text", size: 4, "aria-label": "Second at which moved frames start", input: () => { this.toTyped = true; } });
    this.move = create("div", { class: "control" }, this.moves = actionButton("move to", "Move the seconds", () => add(() => moveText(this.place(), this.secondTyped()))), this.to);
    const pattern = create("input", { type: "text", size: 5, value: "TP30", spellcheck: "false", "aria-label": "Neighbourhood: BDn, TPn or TDnxd" });
    this.neighbourhood = create("div", { class: "control" }, actionButton("neighbourhood", "Put another neighbourhood in place of the model's",
      () => add(() => neighbourhoodText(this.place(), pattern.value.trim(), this.model().local))), pattern);
    const words = create("input", { type: "text", size: 22, placeholder: "as text: patch visual/0/gate from mean", spellcheck: "false", "aria-label": "An edit as text",
      keydown: (event) => event.key === "Enter" && written() });
    const written = () => { if (words.value.trim()) { const edit = words.value.trim(); add(() => edit); words.value = ""; } };
    const off = actionButton("switch off", "Switch off: queries no longer attend to keys", () => add(() => knockOutText(this.place(), this.others.value === "grow")));
    this.attention = create("div", { class: "control" }, off, this.others, labelledControl("scale", scale));
    return create("div", { class: "row", role: "group", "aria-label": "Change" }, this.attention, this.gate, this.drop, this.move, this.neighbourhood, words, actionButton("add", "Add the edit that is written", written));
  }

  /** The second that frames are moved to. @throws {Error} none is written */
  secondTyped() {
    const words = this.to.value.trim();
    if (!words || !Number.isFinite(Number(words))) throw new Error(`${words || "no second"}: expected the second at which they start`);
    this.toTyped = false;
    return Number(words);
  }

  /** Whether the gates of the model have heads: they weigh its maps. */
  gatesByHead() { return this.model().kind === "gate-att"; }

  model() { return this.inspector.scene.models[this.inspector.scene.index(this.inspector.state.model)]; }

  // -- the list

  makeList() {
    const { list } = this.whatIf;
    this.edits = create("ol", { class: "edits", "aria-label": "Edits" });
    this.undo = actionButton("↶", "Undo (Ctrl+Z)", () => list.undo());
    this.redo = actionButton("↷", "Redo (Ctrl+Shift+Z)", () => list.redo());
    this.none = actionButton("clear", "Delete all edits", () => list.set([]));
    this.passes = create("div", { class: "choice", role: "radiogroup", "aria-label": "Pass that is shown (O and C)" },
      ...PASSES.map(([value, words]) => create("button", { type: "button", role: "radio", "data-value": value, click: () => this.inspector.set({ pass: value }) }, words)));
    const copy = (make) => () => this.inspector.controls.copy(make(this.inspector.scene, this.inspector.state, this.whatIf.made));
    this.share = create("div", { class: "tools", role: "group", "aria-label": "Share the edits" },
      actionButton("Python", "Copy the edits as Python", copy(pythonOfEdits)), actionButton("command", "Copy the edits as a command", copy(commandOfEdits)),
      actionButton("save", "Save the edits as a file", () => saveEdits(this.inspector, list)));
    const open = actionButton("open", "Open edits from a file", () => openEdits(this.whatIf));
    return create("div", { class: "row" }, this.undo, this.redo, this.none, this.edits, this.passes, this.share, open);
  }

  makeStatus() {
    this.status = create("output", { class: "effect", role: "status", "aria-live": "polite" });
    this.alert = create("div", { class: "problem", role: "alert" });
    return create("div", { class: "row" }, this.status, this.alert, create("span", { class: "hint" }, EDIT_KEYS));
  }

  // -- showing

  update(state) {
    const { whatIf, inspector: { scene } } = this, { engine, plainModel } = whatIf;
    this.element.hidden = !engine && !plainModel;
    this.plainRow.hidden = Boolean(engine);
    this.rows.forEach((row) => { row.hidden = !engine; });
    if (plainModel) this.plainWords.textContent = `${this.model().label} is as it was recorded. Edits are made of ${plainModel.label}:`;
    if (!engine) return;
    this.showPlaces(state);
    const { entries, past, future } = whatIf.list, seconds = Boolean(state.selection?.seconds);
    this.drag.textContent = `drag ${whatIf.drag === "zoom" ? "zooms" : "selects"}`;
    if (this.selected !== state.selection) Object.assign(this, { unread: {}, refused: "" }); // something else is selected now
    this.selected = state.selection;
    for (const [name, field] of Object.entries(this.spans)) {
      field.setAttribute("aria-invalid", String(name in this.unread));
      field.title = name in this.unread ? `not in force: ${this.unread[name]}` : "";
      if (!(name in this.unread) && name !== this.typing) field.value = secondsOf(state.selection?.[name] ?? null, scene.clip.frame_seconds)?.join("..") ?? "";
    }
    this.clear.disabled = !state.selection && !Object.keys(this.unread).length;
    this.drop.disabled = this.moves.disabled = !seconds;
    if (this.cursor !== state.frame && !this.toTyped) this.to.value = secondsOf([this.cursor = state.frame], scene.clip.frame_seconds)[0];
    [[this.undo, past], [this.redo, future], [this.none, entries]].forEach(([each, of]) => { each.disabled = !of.length; });
    this.showEntries(entries);
    this.passes.hidden = this.share.hidden = !entries.length;
    for (const each of this.passes.children) each.setAttribute("aria-checked", String(each.dataset.value === state.pass));
    this.status.textContent = this.said(state);
    this.alert.textContent = whatIf.alert;
    this.alert.hidden = !whatIf.alert;
  }

  /** What the edits do, or why nothing is said. */
  said(state) {
    const { whatIf } = this;
    if (!whatIf.made.length || whatIf.problem || this.complaint) return "";
    if (!this.inspector.scene.answered) return "asking the model";
    return `${whatIf.effect(state)} · ${Math.round(whatIf.questions.milliseconds)} ms`;
  }

  showEntries(entries) {
    const messages = this.messagesOf(entries), made = JSON.stringify([entries, messages]);
    if (made === this.made) return;
    this.made = made;
    const { list } = this.whatIf, focused = this.element.getRootNode().activeElement;
    const label = this.edits.contains(focused) ? focused.getAttribute("aria-label") : "";
    this.edits.replaceChildren(...entries.map(({ edit, on }, index) => create("li", { class: messages[index] ? "refused" : "", title: messages[index] }, create("label", {},
      create("input", { type: "checkbox", checked: on, "aria-label": `On: ${edit}`, "aria-invalid": String(Boolean(messages[index])), change: () => list.turn(index) }),
      create("code", {}, edit), ...messages[index] ? [create("span", { class: "refusal" }, " not made")] : []),
      actionButton("×", `Delete: ${edit}`, () => list.remove(index)))));
    this.edits.classList.toggle("many", entries.length > FEW_EDITS); // then a row of their own
    if (label) ([...this.edits.querySelectorAll("input, button")].find((each) => each.getAttribute("aria-label") === label)
      ?? this.edits.querySelector("button") ?? this.inspector.root).focus(); // the keyboard stays where it was
  }

  /** Why each edit of the list is not made; empty texts where it is, or is off. @param {Entry[]} entries */
  messagesOf(entries) {
    const { messages } = this.whatIf;
    let at = 0;
    return entries.map(({ on }) => (on ? messages[at++] : ""));
  }

  /** What can be chosen; it goes with the view where that is changed. */
  showPlaces(state) {
    const { scene } = this.inspector, model = this.model(), branches = scene.branches(state.model, state.modality).filter((each) => each !== "combined");
    const viewed = { stream: state.modality, layer: `${state.layer}`, branch: branches.includes(state.branch) ? state.branch : EVERY };
    const options = { stream: model.modalities, layer: scene.layers(state.model).map(String), branch: branches };
    for (const [name, known] of Object.entries(options)) {
      const select = this[name], before = select.value, moved = this.viewed && this.viewed[name] === viewed[name];
      const all = known.length > 1 ? [[EVERY, "all"]] : [];
      const made = JSON.stringify(known);
      if (select.dataset.made !== made) {
        select.dataset.made = made;
        select.replaceChildren(...[...known.map((each) => [each, each]), ...all].map(([value, words]) => create("option", { value }, words)));
      }
      select.value = moved && [...known, EVERY].includes(before) ? before : known.length > 1 ? viewed[name] : known[0];
      select.parentElement.hidden = known.length < 2;
    }
    this.viewed = viewed;
    this.showHeads(scene, state);
    const lanes = model.lanes.map(({ variable }) => variable);
    this.gate.hidden = !lanes.includes("gate");
    this.gateName.textContent = `${this.branch.value === EVERY ? "global" : this.branch.value} gate`; // of all branches it is the global one
    this.attention.hidden = !branches.length;
    this.neighbourhood.hidden = !model.local.some((each) => branches.includes(each));
  }

  showHeads(scene, state) {
    const { modality } = state, chosen = this.branch.value;
    const branches = chosen === EVERY ? scene.branches(state.model, modality) : [chosen];
    const heads = [...new Set(branches.flatMap((each) => scene.heads(state.model, modality, each)))].sort((one, other) => one - other);
    this.heads = this.heads.filter((head) => heads.includes(head));
    const made = JSON.stringify([heads, this.heads]);
    if (made === this.headsMade) return;
    this.headsMade = made;
    this.headGroup.replaceChildren(...heads.map((head) => create("button", { type: "button", "aria-pressed": String(this.heads.includes(head)),
      "aria-label": `Edit head ${head}`, click: () => this.turnHead(head) }, `${head}`)));
  }

  turnHead(head) {
    this.heads = this.heads.includes(head) ? this.heads.filter((each) => each !== head) : [...this.heads, head].sort((one, other) => one - other);
    this.update(this.inspector.state);
    this.headGroup.querySelector(`[aria-label="Edit head ${head}"]`)?.focus();
  }
}
