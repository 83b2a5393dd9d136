/** The pass of an attention block, stage by stage, each open to edits, as `gmsa_models/attention/stages.py` has it. */

import { neighbourhoodMask } from "./masks.js";
import { attentionWeights, firstGate, gatedMaps, joinHeads, plus, splitHeads, timesGate, timesNumber } from "./functions.js";

/**
 * @typedef {{frames: number, products: Products, step: (name: string, inputs: any[], make: () => any) => any,
 *   edits: (branch: string, quantity: string) => boolean, edit: (branch: string, quantity: string, value: any) => any}} Run
 *   step: the result of a step, which may be that of an earlier pass; edits: whether something is changed at a stage; edit: its
 *   value after that
 */

/**
 * @param {Model} model @param {object} layer its projections @param {Float32Array} inputs X, shape (frames, dim)
 * @param {?Uint8Array} valid frames that are no padding; null: all @param {Run} run
 * @returns {object} N as `mask`; by branch `weights`, of each head; R_g as `gate`, of each head or one;
 *   by branch `contributions` to the output before its bias;
 *   `output`; `silent`: whether that was patched, so that no branch has contributed it; `beyond`: whether weight may lie beyond the mask
 */
export function blockPass(model, layer, inputs, valid, run) {
  const { block, heads } = model, { frames, products } = run;
  const projected = Object.fromEntries(["query", "key", "value"].map((name) => [name, run.step(name, [inputs],
    () => splitHeads(linear(products, layer[name], inputs, frames), frames, heads))]));
  const neighbourhood = block.branches.includes("local") ? run.edit("local", "neighbourhood", model.neighbourhood) : null;
  const mask = neighbourhood && run.step("neighbourhood", [neighbourhood], () => neighbourhoodMask(neighbourhood, frames));
  const trace = { neighbourhood, mask, weights: {}, values: {}, gate: null, contributions: {} };
  for (const branch of block.branches) {
    const own = (name) => projected[name].slice(...block.headsOf(heads, branch));
    trace.values[branch] = run.edit(branch, "values", own("value"));
    trace.weights[branch] = branchWeights(branch, own("query"), own("key"), branch === "local" ? mask : null, valid, run);
  }
  const parts = { "": plainParts, maps: partsOfGatedMaps, outputs: gatedParts }[block.gated];
  parts(layer, trace, run);
  if (block.combined === "joined") trace.weights.combined = [...trace.weights.global, ...trace.weights.local];
  const added = Object.values(trace.contributions);
  const output = run.step("output", added, () => withBias(added.length > 1 ? plus(...added) : added[0].slice(), layer.bias));
  return { ...trace, output: run.edit("", "output", output), silent: run.edits("", "output"), beyond: run.edits("local", "weights") };
}

function branchWeights(branch, queries, keys, mask, valid, run) {
  const { frames, products } = run;
  const query = run.edit(branch, "queries", queries), key = run.edit(branch, "keys", keys);
  const every = () => mask ?? run.step("every pair", [], () => new Uint8Array(frames ** 2).fill(1));
  const masks = run.edits(branch, "mask") ? run.edit(branch, "mask", queries.map(every)) : queries.map(() => mask);
  const logits = run.edit(branch, "logits", query.map((rows, head) => run.step(`${branch}/logits/${head}`, [rows, key[head]], () => {
    const width = rows.length / frames;
    return products.multiply(timesNumber(rows, width ** -0.5), key[head], frames, width, frames, true);
  })));
  return run.edit(branch, "weights", logits.map((rows, head) => run.step(`${branch}/weights/${head}`, [rows, masks[head], valid],
    () => attentionWeights(rows, masks[head], valid, frames))));
}

/** What the heads of each branch hand on: its maps times its values. */
function contextsOf(maps, { values }, run) {
  const { frames, products } = run;
  return Object.fromEntries(Object.keys(maps).map((branch) => [branch, run.edit(branch, "contexts", maps[branch].map((map, head) => {
    const rows = values[branch][head];
    return run.step(`${branch}/contexts/${head}`, [map, rows], () => products.multiplyBanded(map, rows, frames, frames, rows.length / frames));
  }))]));
}

/** Contexts of all heads side by side, through a projection without its bias. */
function projectedContexts(name, contexts, map, run) {
  return run.step(name, contexts, () => linear(run.products, { ...map, bias: null }, joinHeads(contexts, run.frames), run.frames));
}

/** Baseline and ShareAtt: each branch has its heads, and its columns of the output projection. */
function plainParts(layer, trace, run) {
  for (const [branch, contexts] of Object.entries(contextsOf(trace.weights, trace, run))) {
    trace.contributions[branch] = projectedContexts(`${branch}/part`, contexts, layer.outputs[branch], run);
  }
}

/** GateAtt, equations 3 and 4: gates over pairs of frames weigh the maps. */
function partsOfGatedMaps(layer, trace, run) {
  const { frames, products } = run, { global, local } = trace.weights;
  const product = (branch, map, head) => run.step(`${branch}/gate/${head}`, [map],
    () => products.multiplyBanded(map, layer.gates[branch], frames, frames, frames));
  const pairs = global.map((map, head) => [product("global", map, head), product("local", local[head], head)]);
  trace.gate = run.edit("", "gate", pairs.map((pair, head) => run.step(`gate/${head}`, pair, () => firstGate(...pair))));
  const maps = trace.gate.map((gate, head) => {
    const inputs = [gate, global[head], local[head]];
    return run.step(`gated/${head}`, inputs, () => gatedMaps(...inputs));
  });
  trace.weights.combined = maps.map(({ combined }) => combined);
  plainParts(layer, { ...trace, weights: { global: maps.map((each) => each.global), local: maps.map((each) => each.local) } }, run);
}

/** GateOp, equations 5 to 9: gates over frames and features weigh the branches' outputs. */
function gatedParts(layer, trace, run) {
  const contexts = contextsOf(trace.weights, trace, run);
  const linears = ["global", "local"].map((branch) => projectedContexts(`${branch}/gate`, contexts[branch], layer.gates[branch], run));
  const gate = run.edit("", "gate", run.step("gate", linears, () => firstGate(...linears)));
  trace.gate = [gate];
  for (const branch of ["global", "local"]) {
    const output = projectedContexts(`${branch}/output`, contexts[branch], layer.outputs[branch], run);
    trace.contributions[branch] = run.step(`${branch}/part`, [output, gate], () => timesGate(output, gate, branch));
  }
}

/** A `Linear`: rows times its weights, and its bias. @param {{matrix: Float32Array, bias: ?Float32Array, inner: number, outer: number}} map */
export function linear(products, { matrix, bias, inner, outer }, rows, frames) {
  return withBias(products.multiply(rows, matrix, frames, inner, outer), bias);
}

/** Rows plus a bias, in place. */
function withBias(rows, bias) {
  for (let start = 0; bias && start < rows.length; start += bias.length) {
    for (let at = 0; at < bias.length; at++) rows[start + at] += bias[at];
  }
  return rows;
}
