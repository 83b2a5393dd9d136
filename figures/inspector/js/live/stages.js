/** The pass of an attention block, stage by stage, each open to edits, as `gmsa_models/attention/stages.py` has it. */

import { neighbourhoodMask } from "./masks.js";
import { addingToOne, allowedRuns, attentionWeights, blendedMap, firstGate, gatedMaps, gatesOf, joinHeads, otherGate, plus, splitHeads, timesGate, timesNumber } from "./functions.js";
import { gateBranches, localBranches } from "./blocks.js";
import { originOf, pairsInOrder } from "./orders.js";

/**
 * @typedef {{frames: number, products: Products, step: (name: string, inputs: any[], make: () => any) => any,
 *   rowStep: (name: string, rows: Float32Array, make: (rows: Float32Array) => any) => any,
 *   edits: (branch: string, quantity: string) => boolean, edit: (branch: string, quantity: string, value: any) => any}} Run
 *   step: the result of a step, which may be that of an earlier pass; rowStep: of one that takes each row by itself; edits: whether
 *   something is changed at a stage; edit: its value after that
 */

/**
 * @param {Model} model @param {object} layer its projections @param {Float32Array} inputs X, shape (frames, dim)
 * @param {?Uint8Array} valid frames that are no padding; null: all @param {Run} run
 * @returns {object} by branch: N of the local ones as `masks`; `weights`, of each head; `gates`, of each head or one; of GateAtt `combined`, see `gatedHead`;
 *   by branch `contributions` to the output before its bias;
 *   `output`; `silent`: whether that was patched, so that no branch has contributed it; `beyond`: branches whose weight may lie beyond the mask
 */
export function blockPass(model, layer, inputs, valid, run) {
  const { heads } = model, { block } = layer, { frames, products } = run;
  const projected = Object.fromEntries(["query", "key", "value"].map((name) => [name, run.rowStep(name, inputs,
    (rows) => splitHeads(linear(products, layer[name], rows, frames), frames, heads))]));
  const masks = Object.fromEntries(localBranches(block).map((branch) => {
    const neighbourhood = run.edit(branch, "neighbourhood", model.neighbourhoodOf(block, branch));
    return [branch, run.step(`${branch}/neighbourhood`, [neighbourhood], () => neighbourhoodMask(neighbourhood, frames))];
  }));
  const trace = { masks, weights: {}, values: {}, gates: null, contributions: {} };
  for (const branch of block.branches) {
    const own = (name) => projected[name].slice(...block.headsOf(heads, branch));
    trace.values[branch] = run.edit(branch, "values", own("value"));
    trace.weights[branch] = branchWeights(branch, own("query"), own("key"), {
      mask: masks[branch] ?? null, valid, first: block.headsOf(heads, branch)[0],
    }, run);
  }
  const parts = { "": plainParts, maps: partsOfGatedMaps, outputs: gatedParts }[block.gated];
  parts(layer, trace, run);
  if (block.combined === "joined") trace.weights.combined = [...trace.weights.global, ...trace.weights.local];
  const added = Object.values(trace.contributions);
  const output = run.step("output", added, () => withBias(added.length > 1 ? added.reduce(plus) : added[0].slice(), layer.bias));
  const beyond = localBranches(block).filter((branch) => run.edits(branch, "weights"));
  return { ...trace, output: run.edit("", "output", output), silent: run.edits("", "output"), beyond };
}

/** @param {{mask: ?Uint8Array, valid: ?Uint8Array, first: number}} about first: which of the layer's heads is the branch's first */
function branchWeights(branch, queries, keys, { mask, valid, first }, run) {
  const { frames } = run;
  const query = run.edit(branch, "queries", queries), key = run.edit(branch, "keys", keys);
  const every = () => mask ?? run.step("every pair", [], () => new Uint8Array(frames ** 2).fill(1));
  const masks = run.edits(branch, "mask") ? run.edit(branch, "mask", queries.map(every)) : queries.map(() => mask);
  const logits = run.edit(branch, "logits", query.map((rows, head) => headLogits(`logits/${first + head}`, rows, key[head], run)));
  const runs = masks.map((each) => run.step(`${branch}/runs`, [each, valid], () => allowedRuns(each, valid, frames)));
  return run.edit(branch, "weights", logits.map((map, head) => (
    headWeights(`${branch}/weights/${head}`, map, { runs: runs[head], every: !masks[head] && !valid }, run))));
}

/** Logits of a head; those of frames that were moved are those of before, moved. */
function headLogits(name, queries, keys, run) {
  const { frames, products } = run, origins = [queries, keys].map(originOf), width = queries.length / frames;
  return run.step(name, [queries, keys], () => {
    if (origins[0] && origins[0].order === origins[1]?.order) {
      return pairsInOrder(headLogits(name, origins[0].from, origins[1].from, run), origins[0].order);
    }
    return products.multiply(timesNumber(queries, width ** -0.5), keys, frames, width, frames, true);
  });
}

/** Weights of a head; likewise, where `every` frame attends to all. */
function headWeights(name, logits, { runs, every }, run) {
  const origin = every ? originOf(logits) : null;
  return run.step(name, [logits, runs], () => {
    if (origin) return pairsInOrder(headWeights(name, origin.from, { runs, every }, run), origin.order);
    return attentionWeights(logits, runs);
  });
}

/** What the heads of each branch hand on: its maps times its values. */
function contextsOf({ weights, values }, run) {
  return Object.fromEntries(Object.keys(weights).map((branch) => [branch, run.edit(branch, "contexts", weights[branch].map((map, head) => {
    const rows = values[branch][head];
    return run.step(`${branch}/contexts/${head}`, [map, rows], () => contextOf(map, rows, run));
  }))]));
}

function contextOf(map, rows, { products, frames }) { return products.multiplyBanded(map, rows, frames, frames, rows.length / frames); }

/** Contexts of all heads side by side, through a projection without its bias. */
function projectedContexts(name, contexts, map, run) {
  return run.step(name, contexts, () => linear(run.products, { ...map, bias: null }, joinHeads(contexts, run.frames), run.frames));
}

/** Baseline and ShareAtt: each branch has its heads, and its columns of the output projection. */
function plainParts(layer, trace, run, contextsByBranch = contextsOf(trace, run)) {
  for (const [branch, contexts] of Object.entries(contextsByBranch)) {
    trace.contributions[branch] = projectedContexts(`${branch}/part`, contexts, layer.outputs[branch], run);
  }
}

/** GateAtt, equations 3 and 4: gates over pairs of frames weigh the maps. */
function partsOfGatedMaps(layer, trace, run) {
  const { frames, products } = run, { global, local } = trace.weights;
  const product = (branch, map, head) => run.step(`${branch}/gate/${head}`, [map],
    () => products.multiplyBanded(map, layer.gates[branch], frames, frames, frames));
  const pairs = global.map((map, head) => [product("global", map, head), product("local", local[head], head)]);
  const gate = run.edit("", "gate", pairs.map((pair, head) => run.step(`gate/${head}`, pair, () => firstGate(...pair))));
  trace.gates = { global: gate, local: gate.map((each, head) => run.step(`local gate/${head}`, [each], () => otherGate(each))) };
  trace.combined = gate.map((gate, head) => gatedHead(head, [gate, global[head], local[head]], trace.values, run));
  plainParts(layer, trace, run, Object.fromEntries(["global", "local"].map((branch) => [branch,
    run.edit(branch, "contexts", trace.combined.map((each) => each[branch]))])));
}

/**
 * What a head of GateAtt hands on by each branch; what each key receives of R_g A_g + R_l A_l, and `map`, which makes that map.
 * @param {Float32Array[]} maps its gate, A_g and A_l
 */
function gatedHead(head, maps, values, run) {
  const rows = [values.global[head], values.local[head]];
  return run.step(`gated/${head}`, [...maps, ...rows], () => {
    const { global, local, received } = gatedMaps(...maps, run.frames);
    return {
      global: contextOf(global, rows[0], run), local: contextOf(local, rows[1], run), received,
      map: () => run.step(`combined/${head}`, maps, () => blendedMap(...maps)),
    };
  });
}

/** GateOp and GateOpScales, equations 5 to 9: gates over frames and features weigh the branches' outputs. */
function gatedParts(layer, trace, run) {
  const contexts = contextsOf(trace, run), { branches } = layer.block;
  const linears = branches.map((branch) => projectedContexts(`${branch}/gate`, contexts[branch], layer.gates[branch], run));
  const gates = editedGates(layer.block, run.step("gates", linears, () => gatesOf(linears)), run);
  trace.gates = Object.fromEntries(branches.map((branch, at) => [branch, [gates[at]]]));
  for (const [at, branch] of branches.entries()) {
    const output = projectedContexts(`${branch}/output`, contexts[branch], layer.outputs[branch], run);
    trace.contributions[branch] = run.step(`${branch}/part`, [output, gates[at]], () => timesGate(output, gates[at]));
  }
}

/** One gate a branch: of two the other is what the first leaves; of more those that are not changed share it in proportion. */
function editedGates(block, gates, run) {
  const after = gates.map((gate, at) => (at < gateBranches(block).length ? run.edit(gateBranches(block)[at], "gate", gate) : gate));
  if (after.every((gate, at) => gate === gates[at])) return gates;
  return run.step("edited gates", [...gates, ...after],
    () => (gates.length === 2 ? [after[0], otherGate(after[0])] : addingToOne(gates, after)));
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
