/** What the keys do. */

import { SCALES } from "./colours.js";

/** Do what a key stands for, unless it belongs to a field, a button or the browser. @param {Inspector} inspector */
export function pressKey(inspector, event) {
  const field = event.target.closest?.("select, textarea, input");
  if (event.ctrlKey || event.metaKey || event.altKey || field) return;
  if ([" ", "Enter"].includes(event.key) && event.target !== inspector.root) return;
  const action = actionsOfKeys(inspector, event.shiftKey ? 10 : 1)[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action) return;
  event.preventDefault();
  event.stopPropagation();
  action();
}

/** What each key does. @param {number} step in frames, of the arrows */
function actionsOfKeys(inspector, step) {
  const { state, scene } = inspector, next = (values, value) => values[(values.indexOf(value) + 1) % values.length];
  const model = scene.models[scene.index(state.model)];
  return {
    ArrowLeft: () => inspector.step(-step), ArrowRight: () => inspector.step(step),
    ArrowUp: () => inspector.turn(-1), ArrowDown: () => inspector.turn(1),
    Home: () => inspector.set({ frame: state.span[0] }), End: () => inspector.set({ frame: state.span[1] - 1 }),
    " ": () => inspector.play(), Enter: () => inspector.set({ pinned: !state.pinned }), p: () => inspector.set({ pinned: !state.pinned }),
    Escape: () => inspector.set(state.selection ? { selection: null } : { pinned: false, span: [0, scene.frames] }),
    "+": () => inspector.zoom(0.5), "=": () => inspector.zoom(0.5), "-": () => inspector.zoom(2),
    m: () => inspector.set({ modality: next(model.modalities, state.modality) }),
    l: () => inspector.set({ layer: next(scene.layers(state.model), state.layer) }),
    b: () => inspector.set({ branch: next(scene.branches(state.model, state.modality), state.branch) }),
    s: () => inspector.set({ scale: next(Object.keys(SCALES), state.scale) }),
    a: () => inspector.set({ head: state.head < 0 ? state.lastHead : -1 }),
    ...(inspector.whatIf?.engine ? actionsOfEdits(inspector, state) : {}),
    d: () => inspector.set({ view: next(["side", "difference"], state.view) }),
  };
}

/** What keys do where the pass can be edited: which pass is shown, and what is selected. */
function actionsOfEdits(inspector, { pass, frame, selection }) {
  const seconds = selection?.seconds, select = (from, to) => inspector.set({ selection: { seconds: [from, to], queries: null, keys: null } });
  return {
    o: () => inspector.set({ pass: pass === "unedited" ? "edited" : "unedited" }),
    c: () => inspector.set({ pass: pass === "change" ? "edited" : "change" }),
    e: () => inspector.whatIf.bar.turnDrag(),
    "[": () => select(frame, Math.max(frame + 1, seconds?.[1] ?? 0)),
    "]": () => select(Math.min(frame, seconds?.[0] ?? frame), frame + 1),
  };
}
