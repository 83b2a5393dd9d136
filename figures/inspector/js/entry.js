/** Where it starts: in a page of its own (`mountPage`), or as an anywidget (default export). */

import { Payload } from "./payload.js";
import { TRAITS } from "./state.js";
import { create } from "./drawing.js";
import { Inspector } from "./inspector.js";
import { decodeEdits } from "./edit_list.js";
import { KernelEngine } from "./kernel_engine.js";

/** In a page of its own: base64 of the deflated payload. @param {HTMLElement} root @param {string} encoded */
export async function mountPage(root, encoded, initial) {
  const letters = atob(encoded.trim()), bytes = new Uint8Array(letters.length);
  for (let index = 0; index < letters.length; index++) bytes[index] = letters.charCodeAt(index);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const inspector = new Inspector(root, new Payload(await new Response(stream).arrayBuffer()), initial);
  inspector.alone = true; // the address is the page's own: edits may stand in it
  return inspector;
}

const BETWEEN_MESSAGES = 200; // milliseconds: a message to the kernel costs the page more than drawing

/** As a widget: traits go both ways. */
function render({ model, el }) {
  let inspector = null, sending = 0, engines = [];
  const root = create("div");
  el.append(root);
  const read = () => Object.fromEntries(TRAITS.map((name) => [name, model.get(name)]));
  const write = (state) => {
    for (const name of TRAITS) if (JSON.stringify(model.get(name)) !== JSON.stringify(state[name])) model.set(name, state[name]);
    sending ||= setTimeout(send, BETWEEN_MESSAGES);
  };
  const send = () => {
    clearTimeout(sending);
    sending = 0;
    model.save_changes();
  };
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
    inspector.whatIf.notify = (texts) => {
      model.set("edits", texts);
      sending ||= setTimeout(send, BETWEEN_MESSAGES);
    };
    edit();
  };
  const edit = () => {
    const { list } = inspector.whatIf ?? {}, texts = model.get("edits");
    if (list && JSON.stringify(texts) !== JSON.stringify(list.texts)) list.set(decodeEdits(texts));
  };
  const complete = () => inspector.complete(bytes("rest"));
  const follow = () => inspector.set(read());
  mount();
  root.addEventListener("focusout", () => sending && send()); // a cell that is run next knows what was chosen
  model.on("change:payload", mount);
  model.on("change:rest", complete);
  model.on("change:live", mount);
  model.on("change:edits", edit);
  TRAITS.forEach((name) => model.on(`change:${name}`, follow));
  return () => {
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
