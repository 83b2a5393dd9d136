/** Python that shows a view again. */

import { START, TRAITS } from "./state.js";
import { shellQuoted } from "./words.js";

/** Python that shows a view again. JSON texts and numbers are Python's too. @param {Scene} scene @param {State} state */
export function pythonOfView(scene, state) {
  const { clip } = scene;
  const records = scene.shown(state).map((index) => scene.models[index].python);
  const view = pythonOfTraits(state);
  const videos = records.filter((each) => each.startsWith("inspect_video(")).length;
  const parts = records.some((each) => each.includes("DEFAULT_PARTS")) ? "DEFAULT_PARTS, " : "";
  return [
    "import gmsa_models",
    ...(videos < records.length ? [`from gmsa.analysis import ${parts}inspect_clip`] : []),
    ...(videos ? ["from gmsa.analysis.inspect.video import inspect_video"] : []),
    "from gmsa.figures.inspector import Inspector", "",
    ...(videos < records.length ? [clip.python] : []), "records = [", ...records.map((each) => `    ${each},`), "]",
    `inspector = Inspector(${["records", ...clip.video ?? [], ...view].join(", ")})`, "inspector  # or inspector.figure(), inspector.to_html(\"view.html\")", "",
  ].join("\n");
}

/** Python that makes the record of the edited pass, and shows it. @param {Scene} scene @param {State} state @param {string[]} texts */
export function pythonOfEdits(scene, state, texts) {
  const model = scene.models[scene.index(state.model)], layers = scene.layers(state.model);
  const chosen = layers.length > 1 ? `, layers=[${layers.join(", ")}]` : layers[0] ? `, layer=${layers[0]}` : "";
  const plain = `inspect_clip(model, clip${chosen})`, other = comparedModel(scene, state), records = other ? `[${plain}, ${other.python}]` : plain;
  const parts = records.includes("DEFAULT_PARTS") ? "DEFAULT_PARTS, " : "";
  return [
    "import gmsa_models", `from gmsa.analysis import ${parts}EditEngine, inspect_clip`, "from gmsa.figures.inspector import Inspector", "",
    scene.clip.python, `model = ${model.load}`, "edits = [", ...texts.map((each) => `    ${JSON.stringify(each)},`), "]",
    `edited = inspect_clip(model, clip, edits=edits${chosen})  # edited["score"], edited["attention"], ...`,
    `inspector = Inspector(${[records, "engines=[EditEngine(model, clip)]", "edits=edits", ...pythonOfTraits({ ...state, against: other?.name ?? "" })].join(", ")})`,
    "inspector", "",
  ].join("\n");
}

/** The command that makes the record of the edited pass. @param {Scene} scene @param {State} state @param {string[]} texts */
export function commandOfEdits(scene, state, texts) {
  const model = scene.models[scene.index(state.model)], layers = scene.layers(state.model);
  const layer = layers.length > 1 ? " --layer all" : layers[0] ? ` --layer ${layers[0]}` : "";
  const other = comparedModel(scene, state), against = other ? ` --against ${other.argument}` : "";
  return `gmsa inspect ${scene.clip.argument} --model ${model.argument}${against}${layer}${texts.map((each) => ` --edit ${shellQuoted(each)}`).join("")} --html`;
}

/** The model that the edited one is compared with; none where that is an edited pass itself. @returns {?object} */
function comparedModel(scene, { against }) {
  const model = against ? scene.models[scene.index(against)] : null;
  return model?.edits.length ? null : model;
}

function pythonOfTraits(state) {
  return TRAITS.filter((name) => JSON.stringify(state[name]) !== JSON.stringify(START[name]) && name !== "theme")
    .map((name) => `${name}=${name === "span" ? `(${state.span.join(", ")})` : pythonValue(state[name])}`);
}

function pythonValue(value) {
  return typeof value === "boolean" ? (value ? "True" : "False") : JSON.stringify(value);
}
