/** Edits as a file. */

import { create } from "./drawing.js";
import { download } from "./save.js";
import { decodeEdits, encodeEdits } from "./edit_list.js";

/** @param {Inspector} inspector @param {EditList} list */
export function saveEdits(inspector, list) {
  const { scene, state } = inspector;
  const saved = { clip: scene.clip.id, model: state.model, edits: JSON.parse(encodeEdits(list.entries)) };
  download(new Blob([JSON.stringify(saved, null, 2)], { type: "application/json" }), inspector.fileName("-edits.json"));
}

/** Choose a file and take its edits. @param {WhatIf} whatIf */
export function openEdits(whatIf) {
  const field = create("input", { type: "file", accept: ".json,application/json", "aria-label": "File of edits" });
  field.hidden = true;
  field.addEventListener("change", async () => {
    field.remove();
    try { takeEdits(whatIf, await field.files[0].text()); } catch (error) {
      Object.assign(whatIf, { note: "", problem: `${field.files[0].name}: ${error.message}` });
      whatIf.bar.update(whatIf.inspector.state);
    }
  });
  whatIf.bar.element.append(field);
  field.click();
}

/** @throws {Error} the text is of another form */
function parsed(words) {
  try {
    const saved = JSON.parse(words);
    if (saved && typeof saved === "object" && "edits" in saved) return saved;
  } catch { /* no JSON: said below */ }
  throw new Error('this is no file of edits; expected JSON with a list "edits", as "save" writes it');
}

/** @throws {Error} of a text that is no file of edits */
function takeEdits(whatIf, words) {
  const saved = parsed(words), { scene, state } = whatIf.inspector;
  whatIf.list.set(decodeEdits(saved.edits));
  const here = { clip: scene.clip.id, model: state.model }, others = Object.keys(here).filter((name) => (saved[name] ?? here[name]) !== here[name]);
  const said = (of) => others.map((name) => `${name} ${of[name]}`).join(" and ");
  if (others.length) whatIf.note = `these edits were saved of ${said(saved)}; here they are of ${said(here)}`;
  whatIf.bar.update(state);
}
