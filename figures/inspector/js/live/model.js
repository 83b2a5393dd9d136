/** One stream of a model and the frames of one clip, from what `figures/inspector/live.py` wrote; and its pass with edits. */

import { blocksOf, localBranches } from "./blocks.js";
import { parseNeighbourhood } from "./masks.js";
import { parseEdits } from "./edits.js";
import { Plan } from "./plan.js";
import { Reuse } from "./reuse.js";
import { EditError } from "./texts.js";
import { inOrder, originOf } from "./orders.js";
import { gelu, layerNorm, meanOfRows, plus } from "./functions.js";
import { transpose } from "./products.js";
import { blockPass, linear } from "./stages.js";

export class Model {
  /** @param {Payload} payload of `live.py` @param {Products} products @param {string} own the stream whose pass is made here */
  constructor(payload, products, own) {
    const { attention, heads, neighbourhood, norm_first, eps, clock, modalities, layers } = payload.header;
    const blocks = blocksOf(attention, neighbourhood, layers);
    Object.assign(this, { payload, products, heads, clock, blocks, eps, normFirst: norm_first, own, layers, reuse: new Reuse() });
    this.scales = attention === "gate-op-scales";
    this.neighbourhood = neighbourhood && parseNeighbourhood(neighbourhood);
    this.streams = modalities; // of all, edits say where they are
    this.stream = this.streamOf(own);
    this.classifier = this.ownClassifier();
    this.answer([]);
  }

  array(name) { return this.payload.array(name); }

  /** A `Linear` as the pass takes it: from the left by rows. */
  linear(name) {
    const [outer, inner] = this.payload.about(`${name}.weight`).shape;
    return { matrix: transpose(this.array(`${name}.weight`), outer, inner), bias: this.array(`${name}.bias`), inner, outer };
  }

  norm(name) { return this.payload.has(`${name}.weight`) ? { weight: this.array(`${name}.weight`), bias: this.array(`${name}.bias`), eps: this.eps } : null; }

  /** The part of the classifier that takes this stream's mean; the first stream's has the bias. */
  ownClassifier() {
    const { matrix, bias, outer } = this.linear("classifier"), place = this.streams.indexOf(this.own);
    const widths = this.streams.map((name) => this.payload.about(`frames.${name}`).shape[1]);
    const before = widths.slice(0, place).reduce((sum, width) => sum + width, 0), inner = widths[place];
    return { matrix: matrix.slice(before * outer, (before + inner) * outer), bias: place ? null : bias, inner, outer };
  }

  streamOf(name) {
    const at = `encoders.${name}`;
    return {
      frames: this.array(`frames.${name}`), zero: this.array(`zero.${name}`), norm: this.norm(`${at}.norm`),
      layers: Array.from({ length: this.layers }, (_, number) => this.layer(`${at}.layers.${number}`, this.blocks[number])),
    };
  }

  /** N_i of one local branch, without edits. */
  neighbourhoodOf(block, branch) {
    const { parts } = this.neighbourhood;
    return parts ? parts[localBranches(block).indexOf(branch)] : this.neighbourhood;
  }

  layer(at, kind) {
    const layer = { block: kind, wide: this.linear(`${at}.feed_forward.0`), narrow: this.linear(`${at}.feed_forward.2`),
      attentionNorm: this.norm(`${at}.norm_attention`), feedForwardNorm: this.norm(`${at}.norm_feed_forward`) };
    if (!kind) return layer;
    const block = `${at}.attention`, { gated, branches, headsOf } = kind;
    for (const name of ["query", "key", "value"]) layer[name] = this.linear(`${block}.${name}`);
    const nameOf = (name, branch) => (this.scales ? `${name}s.${branch}` : `${name}_${branch}`);
    const both = (name) => Object.fromEntries(branches.map((branch) => [branch, this.linear(`${block}.${nameOf(name, branch)}`)]));
    if (gated === "outputs") return { ...layer, outputs: both("output"), gates: both("gate"), bias: this.array(`${block}.output_bias`) };
    const output = this.linear(`${block}.output`), width = output.inner / this.heads;
    const own = (branch) => {
      const [first, stop] = headsOf(this.heads, branch).map((head) => head * width);
      return { matrix: output.matrix.slice(first * output.outer, stop * output.outer), bias: null, inner: stop - first, outer: output.outer };
    };
    const gates = gated ? Object.fromEntries(branches.map((branch) => [branch, this.array(`${block}.gate_${branch}`)])) : {};
    return { ...layer, gates, outputs: Object.fromEntries(branches.map((branch) => [branch, own(branch)])), bias: output.bias };
  }

  /** Edits made ready. @param {string[]} texts see `parseEdits` @throws {EditError} a text that cannot be read, an edit that does not fit */
  plan(texts) {
    const plan = new Plan(this, parseEdits(texts), this.clock);
    this.streams.forEach((name) => plan.valid(name));
    return plan;
  }

  /** Why each edit cannot be made with those before it that can; empty texts where it can. @param {string[]} texts @returns {string[]} */
  refusals(texts) {
    const kept = [];
    return texts.map((text) => {
      try {
        this.plan([...kept, text]);
      } catch (error) {
        if (!(error instanceof EditError)) throw error;
        return error.message;
      }
      kept.push(text);
      return "";
    });
  }

  /**
   * A pass with edits.
   * @param {string[]} texts see `parseEdits`
   * @returns {{logits: Float32Array, layers: object[], neighbourhoods: object[]}} logits: this stream's part; layers: what its blocks
   *   came to; neighbourhoods: of the blocks of all streams
   * @throws {EditError} see `plan`
   */
  answer(texts) {
    const plan = this.plan(texts), { layers, pooled } = this.streamPass(plan);
    const logits = this.reuse.get("logits", [pooled], () => linear(this.products, this.classifier, pooled, 1));
    return { logits, layers, neighbourhoods: this.neighbourhoods(plan) };
  }

  /** Of each block that has local branches: of these, by name. */
  neighbourhoods(plan) {
    return this.streams.flatMap((name) => this.blocks.flatMap((block, number) => {
      const run = this.run(name, number, plan), local = block ? localBranches(block) : [];
      const own = local.map((branch) => [branch, run.edit(branch, "neighbourhood", this.neighbourhoodOf(block, branch))]);
      return own.length ? [Object.fromEntries(own)] : [];
    }));
  }

  streamPass(plan) {
    const { own, stream, clock: { frames } } = this, layers = [];
    const run = this.run(own, null, plan), spans = JSON.stringify(plan.dropped.get(own) ?? null);
    const valid = run.step("valid", [spans], () => plan.valid(own));
    let hidden = run.edit("", "input", stream.frames);
    stream.layers.forEach((layer, number) => {
      layers.push(this.layerPass(layer, hidden, valid, this.run(own, number, plan)));
      hidden = layers.at(-1).encoded;
    });
    const last = stream.norm ? run.step("norm", [hidden], () => layerNorm(hidden, stream.norm)) : hidden;
    return { layers, pooled: run.edit("", "pooled", run.step("pooled", [last, valid], () => meanOfRows(last, valid, frames))) };
  }

  layerPass(layer, hidden, valid, run) {
    const { normFirst } = this;
    if (!layer.block) return { weights: {}, gates: null, contributions: {}, encoded: run.edit("", "encoded", this.feedForward(layer, hidden, run)) };
    const first = normFirst ? run.rowStep("norm of attention", hidden, (rows) => layerNorm(rows, layer.attentionNorm)) : hidden;
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
    const rowStep = (name, rows, make) => step(name, [rows], () => {
      const origin = originOf(rows);
      if (!origin) return make(rows);
      const before = rowStep(name, origin.from, make);
      return Array.isArray(before) ? before.map((each) => inOrder(each, origin.order)) : inOrder(before, origin.order);
    });
    return {
      step, rowStep, products: this.products, frames: this.clock.frames,
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
