/** A thread of the page's engine: takes a model and one of its streams once, then answers one list of edits after another. */

import { Payload } from "../payload.js";
import { EditError } from "./texts.js";
import { PlainProducts, VectorProducts } from "./products.js";
import { Model } from "./model.js";
import { answerOf } from "./variables.js";

let model = null;

/** By vector instructions where the browser has them and lets them be used. @returns {Products} */
function fastestProducts() {
  const code = VectorProducts.code();
  try {
    return code ? new VectorProducts(code) : new PlainProducts();
  } catch (error) {
    if (!(error instanceof WebAssembly.CompileError)) throw error;
    return new PlainProducts(); // the page's policy does not let them be used
  }
}

/** @param {{buffer: ArrayBuffer, stream: string}|{edits: string[], shown: ?string[]}|{checked: string[]}} message the model, or a question */
function replyTo({ buffer, stream, edits, shown, checked }) {
  if (checked) return model.refusals(checked);
  if (edits) return answerOf(model, model.answer(edits), shown ?? null);
  model = new Model(new Payload(buffer), fastestProducts(), stream);
  return { products: model.products.constructor.name };
}

/** A reply and its own copies of what the model keeps of its arrays: those are handed over, not copied once more. */
function handedOver(reply) {
  if (!reply.variables) return [reply, []];
  const logits = reply.logits.slice(), variables = {};
  for (const [name, values] of Object.entries(reply.variables)) variables[name] = values.slice();
  return [{ logits, variables }, [logits, ...Object.values(variables)].map(({ buffer }) => buffer)];
}

self.onmessage = ({ data: { number, ...message } }) => {
  try {
    const [reply, moved] = handedOver(replyTo(message));
    self.postMessage({ number, reply }, moved);
  } catch (error) {
    self.postMessage({ number, error: error instanceof EditError ? error.message : `the page's engine: ${error.message}` });
  }
};
