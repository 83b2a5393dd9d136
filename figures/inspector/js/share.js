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
      whatIf.problem = `${field.files[0].name}: ${error.message}`;
      whatIf.bar.update(whatIf.inspector.state);
    }
  });
  whatIf.bar.element.append(field);
  field.click();
}

/** @throws {Error} of a text that is no file of edits */
function takeEdits(whatIf, words) {
  const saved = JSON.parse(words), { clip } = whatIf.inspector.scene;
  whatIf.list.set(decodeEdits(saved?.edits));
  if (saved.clip !== clip.id) whatIf.problem = `these edits were saved of clip ${saved.clip}, and this is ${clip.id}`;
  whatIf.bar.update(whatIf.inspector.state);
}
