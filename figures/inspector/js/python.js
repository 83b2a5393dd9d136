/** Python that shows a view again. */

import { START, TRAITS } from "./state.js";

/** Python that shows a view again. JSON texts and numbers are Python's too. @param {Scene} scene @param {State} state */
export function pythonOfView(scene, state) {
  const { clip } = scene;
  const names = scene.shown(state).map((index) => scene.models[index].name);
  const view = TRAITS.filter((name) => JSON.stringify(state[name]) !== JSON.stringify(START[name]) && name !== "theme")
    .map((name) => `${name}=${name === "span" ? `(${state.span.join(", ")})` : pythonValue(state[name])}`);
  const explained = scene.shown(state).some((index) => scene.explanations(scene.models[index].name).length);
  const parts = explained ? ", parts=[*DEFAULT_PARTS, \"explanation\"]" : "";
  return [
    "import gmsa_models", `from analysis import ${explained ? "DEFAULT_PARTS, " : ""}inspect_clip`, "from figures.inspector import Inspector", "",
    `clip = next(iter(gmsa_models.read_clips(${JSON.stringify(clip.read)})))`,
    `records = [inspect_clip(gmsa_models.load(name), clip${parts}) for name in ${JSON.stringify(names)}]`,
    `inspector = Inspector(records, ${view.join(", ")})`, "inspector  # or inspector.figure(), inspector.to_html(\"view.html\")", "",
  ].join("\n");
}

function pythonValue(value) {
  return typeof value === "boolean" ? (value ? "True" : "False") : JSON.stringify(value);
}
