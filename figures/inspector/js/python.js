/** Python that shows a view again. */

import { START, TRAITS } from "./state.js";

/** Python that shows a view again. JSON texts and numbers are Python's too. @param {Scene} scene @param {State} state */
export function pythonOfView(scene, state) {
  const { clip } = scene;
  const records = scene.shown(state).map((index) => scene.models[index].python);
  const view = TRAITS.filter((name) => JSON.stringify(state[name]) !== JSON.stringify(START[name]) && name !== "theme")
    .map((name) => `${name}=${name === "span" ? `(${state.span.join(", ")})` : pythonValue(state[name])}`);
  const videos = records.filter((each) => each.startsWith("inspect_video(")).length;
  const parts = records.some((each) => each.includes("DEFAULT_PARTS")) ? "DEFAULT_PARTS, " : "";
  return [
    "import gmsa_models",
    ...(videos < records.length ? [`from analysis import ${parts}inspect_clip`] : []),
    ...(videos ? ["from analysis.inspect.video import inspect_video"] : []),
    "from figures.inspector import Inspector", "",
    ...(videos < records.length ? [clip.python] : []), "records = [", ...records.map((each) => `    ${each},`), "]",
    `inspector = Inspector(${["records", ...clip.video ?? [], ...view].join(", ")})`, "inspector  # or inspector.figure(), inspector.to_html(\"view.html\")", "",
  ].join("\n");
}

function pythonValue(value) {
  return typeof value === "boolean" ? (value ? "True" : "False") : JSON.stringify(value);
}
