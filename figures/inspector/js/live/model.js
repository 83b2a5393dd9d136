/** A model and the frames of one clip, from what `figures/inspector/live.py` wrote; and its pass with edits. */

import { BLOCKS } from "./blocks.js";
import { parseNeighbourhood } from "./masks.js";
import { parseEdits } from "./edits.js";
import { Plan } from "./plan.js";
import { Reuse } from "./reuse.js";
import { gelu, layerNorm, meanOfRows, plus } from "./functions.js";
import { transpose } from "./products.js";
import { blockPass, linear } from "./stages.js";

export class Model {
  /** @param {Payload} payload of `live.py` @param {Products} products */
  constructor(payload, products) {
    const { attention, heads, neighbourhood, norm_first, eps, clock, modalities, layers } = payload.header;
    const kind = BLOCKS[attention];
    Object.assign(this, { payload, products, heads, clock, block: kind, eps, normFirst: norm_first, reuse: new Reuse() });
    this.neighbourhood = neighbourhood && parseNeighbourhood(neighbourhood);
    this.streams = Object.fromEntries(modalities.map((name) => [name, this.stream(name, layers)]));
    this.classifier = this.linear("classifier");
    this.answer([]);
  }

  array(name) { return this.payload.array(name); }

  /** A `Linear` as the pass takes it: from the left by rows. */
  linear(name) {
    const [outer, inner] = this.payload.about(`${name}.weight`).shape;
    return { matrix: transpose(this.array(`${name}.weight`), outer, inner), bias: this.array(`${name}.bias`), inner, outer };
  }

  norm(name) { return this.payload.has(`${name}.weight`) ? { weight: this.array(`${name}.weight`), bias: this.array(`${name}.bias`), eps: this.eps } : null; }

  stream(name, layers) {
    const at = `encoders.${name}`;
    return {
      frames: this.array(`frames.${name}`), zero: this.array(`zero.${name}`), norm: this.norm(`${at}.norm`),
      layers: Array.from({ length: layers }, (_, number) => this.layer(`${at}.layers.${number}`)),
    };
  }

  layer(at) {
    const layer = { wide: this.linear(`${at}.feed_forward.0`), narrow: this.linear(`${at}.feed_forward.2`),
      attentionNorm: this.norm(`${at}.norm_attention`), feedForwardNorm: this.norm(`${at}.norm_feed_forward`) };
    if (!this.block) return layer;
    const block = `${at}.attention`, { gated, branches, headsOf } = this.block;
    for (const name of ["query", "key", "value"]) layer[name] = this.linear(`${block}.${name}`);
    const both = (name) => Object.fromEntries(branches.map((branch) => [branch, this.linear(`${block}.${name}_${branch}`)]));
    if (gated === "outputs") return { ...layer, outputs: both("output"), gates: both("gate"), bias: this.array(`${block}.output_bias`) };
    const output = this.linear(`${block}.output`), width = output.inner / this.heads;
    const own = (branch) => {
      const [first, stop] = headsOf(this.heads, branch).map((head) => head * width);
      return { matrix: output.matrix.slice(first * output.outer, stop * output.outer), bias: null, inner: stop - first, outer: output.outer };
    };
    const gates = gated ? Object.fromEntries(branches.map((branch) => [branch, this.array(`${block}.gate_${branch}`)])) : {};
    return { ...layer, gates, outputs: Object.fromEntries(branches.map((branch) => [branch, own(branch)])), bias: output.bias };
  }

  /**
   * A pass with edits.
   * @param {string[]} texts see `parseEdits`
   * @returns {{logits: Float32Array, layers: Object<string, object[]>, plan: Plan}} layers: of each stream what its blocks came to
   * @throws {EditError} a text that cannot be read, an edit that does not fit the model or the clip
   */
  answer(texts) {
    const plan = new Plan(this, parseEdits(texts), this.clock), layers = {};
    const pooled = Object.keys(this.streams).map((name) => {
      const result = this.streamPass(name, plan);
      layers[name] = result.layers;
      return result.pooled;
    });
    const { inner } = this.classifier, joined = new Float32Array(inner);
    pooled.reduce((at, vector) => { joined.set(vector, at); return at + vector.length; }, 0);
    return { logits: this.reuse.get("logits", pooled, () => linear(this.products, this.classifier, joined, 1)), layers, plan };
  }

  streamPass(name, plan) {
    const stream = this.streams[name], { frames } = this.clock, layers = [];
    const run = this.run(name, null, plan), spans = JSON.stringify(plan.dropped.get(name) ?? null);
    const valid = run.step("valid", [spans], () => plan.valid(name));
    let hidden = run.edit("", "input", stream.frames);
    stream.layers.forEach((layer, number) => {
      layers.push(this.layerPass(layer, hidden, valid, this.run(name, number, plan)));
      hidden = layers.at(-1).encoded;
    });
    const last = stream.norm ? run.step("norm", [hidden], () => layerNorm(hidden, stream.norm)) : hidden;
    return { layers, pooled: run.edit("", "pooled", run.step("pooled", [last, valid], () => meanOfRows(last, valid, frames))) };
  }

  layerPass(layer, hidden, valid, run) {
    const { normFirst } = this;
    if (!this.block) return { weights: {}, gate: null, contributions: {}, encoded: run.edit("", "encoded", this.feedForward(layer, hidden, run)) };
    const first = normFirst ? run.step("norm of attention", [hidden], () => layerNorm(hidden, layer.attentionNorm)) : hidden;
    const traced = blockPass(this, layer, run.edit("", "input", first), valid, run);
    const sum = run.step("sum", [hidden, traced.output], () => plus(hidden, traced.output));
    const given = normFirst ? sum : run.step("norm of attention", [sum], () => layerNorm(sum, layer.attentionNorm));
    return { ...traced, encoded: run.edit("", "encoded", this.feedForward(layer, given, run)) };
  }

  feedForward(layer, hidden, run) {
    const { products, normFirst } = this, { frames } = run;
    return run.step("encoded", [hidden], () => {
      const given = normFirst ? layerNorm(hidden, layer.feedForwardNorm) : hidden;
      const sum = plus(hidden, linear(products, layer.narrow, gelu(linear(products, layer.wide, given, frames)), frames));
      return normFirst ? sum : layerNorm(sum, layer.feedForwardNorm);
    });
  }

  /** What a stage needs, of one layer of a stream or, for null, of the stream. @returns {Run} */
  run(stream, layer, plan) {
    const place = `${stream}/${layer ?? ""}`;
    const step = (name, inputs, make) => this.reuse.get(`${place}/${name}`, inputs, make);
    return {
      step, products: this.products, frames: this.clock.frames,
      edits: (branch, quantity) => plan.changes(stream, layer, branch, quantity).actions.length > 0,
      edit: (branch, quantity, value) => {
        const { actions, text } = plan.changes(stream, layer, branch, quantity);
        if (!actions.length) return value;
        return step(`${branch}/${quantity} edited`, [text, ...Array.isArray(value) ? value : [value]],
          () => actions.reduce((after, { change }) => change(after, value), value));
      },
    };
  }
}
