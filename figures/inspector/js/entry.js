/** Where it starts: in a page of its own (`mountPage`), or as an anywidget (default export). */

import { Payload } from "./payload.js";
import { TRAITS } from "./state.js";
import { create } from "./drawing.js";
import { Inspector } from "./inspector.js";
import { decodeEdits } from "./edit_list.js";
import { KernelEngine } from "./kernel_engine.js";
import { PageEngine } from "./page_engine.js";

const LETTERS = 2 ** 22; // of base64 that are decoded together, a multiple of 4: a large payload is never there in three forms at once

/** Bytes of which a text is the deflated base64. @param {string} encoded @returns {Promise<ArrayBuffer>} */
function inflated(encoded) {
  const from = encoded.length - encoded.trimStart().length, end = encoded.trimEnd().length;
  let place = from;
  const parts = new ReadableStream({
    pull(controller) {
      if (place >= end) return controller.close();
      const letters = atob(encoded.slice(place, Math.min(place + LETTERS, end))), bytes = new Uint8Array(letters.length);
      for (let index = 0; index < letters.length; index++) bytes[index] = letters.charCodeAt(index);
      place += LETTERS;
      controller.enqueue(bytes);
    },
  });
  return new Response(parts.pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
}

/**
 * In a page of its own.
 * @param {HTMLElement} root @param {string} encoded base64 of the deflated payload @param {Partial<State>} initial
 * @param {?string} module text of the modules that make passes @param {string[]} weights of live models, encoded likewise
 * @param {string} rest what the first view does not need of the payload, likewise; it is decoded when that view stands
 */
export async function mountPage(root, encoded, initial, module = null, weights = [], rest = "") {
  const inspector = new Inspector(root, new Payload(await inflated(encoded)), initial);
  inspector.keepInAddress();
  for (const each of weights) {
    const engine = new PageEngine(module, await inflated(each));
    inspector.attach(engine);
    inspector.undo.push(() => engine.close());
    inspector.controls.foot.append(create("div", { class: "live hint", title: `SHA-256 of its weights: ${engine.sha256 || "not of a file"}` },
      `live: ${engine.model}, SHA-256 ${engine.sha256.slice(0, 12) || "of no file"}`));
  }
  if (rest) {
    await inspector.opened;
    inspector.complete(await inflated(rest));
  }
  return inspector;
}

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
const BETWEEN_MESSAGES = 200; // milliseconds: a message to the kernel costs the page more than drawing

/** As a widget: traits go both ways. */
function render({ model, el }) {
  let inspector = null, sending = 0, choosing = false, engines = [];
  const unsent = new Map(), sent = new Map(); // values by trait: chosen and not sent yet, and sent last
  const root = create("div");
  el.append(root);
  const read = () => Object.fromEntries(TRAITS.map((name) => [name, model.get(name)]));
  const write = (state) => choose(Object.fromEntries(TRAITS.filter((name) => !same(model.get(name), state[name])).map((name) => [name, state[name]])));
  const choose = (values) => {
    choosing = true;
    for (const [name, value] of Object.entries(values)) {
      unsent.set(name, value);
      model.set(name, value);
    }
    choosing = false;
    follow(); // another view of the widget may have changed more
    sending ||= setTimeout(send, BETWEEN_MESSAGES);
  };
  const send = () => {
    clearTimeout(sending);
    sending = 0;
    unsent.forEach((value, name) => sent.set(name, value));
    unsent.clear();
    model.save_changes();
  };
  // The kernel answers each message with the values that it took. Such an answer does not undo what was chosen after the message.
  const keepLater = () => unsent.forEach((value, name) => {
    const given = model.get(name);
    if (same(given, value)) return;
    if (same(given, sent.get(name))) model.set(name, value);
    else unsent.delete(name); // a later choice, of the kernel or of a linked widget
  });
  const bytes = (name) => {
    const { buffer, byteOffset, byteLength } = model.get(name);
    return byteLength ? buffer.slice(byteOffset, byteOffset + byteLength) : null;
  };
  const mount = () => {
    inspector?.destroy();
    inspector = new Inspector(root, new Payload(bytes("payload"), bytes("rest")), read(), write);
    write(inspector.state);
    engines.forEach((engine) => engine.close());
    engines = model.get("live").map((name) => new KernelEngine(model, name));
    engines.forEach((engine) => inspector.attach(engine));
    if (!inspector.whatIf) return;
    inspector.whatIf.notify = (texts) => choose({ edits: texts });
    edit();
  };
  const edit = () => {
    keepLater();
    const { whatIf } = inspector, texts = model.get("edits");
    if (whatIf && !same(texts, whatIf.made)) whatIf.list.set(decodeEdits(texts));
  };
  const complete = () => inspector.complete(bytes("rest"));
  const follow = () => {
    if (choosing) return;
    keepLater();
    inspector.set(read());
  };
  mount();
  // A cell that is run next knows what was chosen: what is pressed outside comes after it.
  const leave = ({ target }) => { if (sending && !root.contains(target)) send(); };
  const presses = ["pointerdown", "keydown"];
  presses.forEach((name) => document.addEventListener(name, leave, true));
  root.addEventListener("focusout", () => sending && send());
  model.on("change:payload", mount);
  model.on("change:rest", complete);
  model.on("change:live", mount);
  model.on("change:edits", edit);
  TRAITS.forEach((name) => model.on(`change:${name}`, follow));
  return () => {
    presses.forEach((name) => document.removeEventListener(name, leave, true));
    model.off("change:payload", mount);
    model.off("change:rest", complete);
    model.off("change:live", mount);
    model.off("change:edits", edit);
    engines.forEach((engine) => engine.close());
    TRAITS.forEach((name) => model.off(`change:${name}`, follow));
    inspector.destroy();
    if (sending) send();
  };
}

export { Inspector, Payload };
export default { render };
