/** What a pass came to, under the names that the payload of its record has: see docs/inspector_payload.md. */

import { neighbourhoodMask } from "./masks.js";

/**
 * @param {Model} model @param {object} pass of `Model.answer` @param {?string[]} shown names of the maps that are wanted; null: all
 * @returns {{logits: Float32Array, probabilities: Float32Array, variables: Object<string, Float32Array|Uint8Array>}}
 */
export function answerOf(model, pass, shown) {
  const { indices } = model.payload.header, probabilities = pass.logits.map((logit) => 1 / (1 + Math.exp(-logit)));
  const variables = {}, mask = neighbourhoodOf(model, pass);
  for (const [layer, index] of indices.entries()) {
    if (index === null) continue;
    variables[`${index}/score`] = probabilities;
    if (mask) variables[`${index}/neighbourhood`] = mask;
    for (const stream of Object.keys(pass.layers)) {
      const traced = pass.layers[stream][layer], step = (name, inputs, make) => model.reuse.get(`${stream}/${layer}/${name}`, inputs, make);
      Object.assign(variables, mapsOf(model, traced, step, (name) => `${index}/${name.replace("*", stream)}`, shown),
        lanesOf(model, traced, step, (variable, branch) => `${index}/lane/${variable}/${stream}/${branch}`));
    }
  }
  return { logits: pass.logits, probabilities, variables };
}

/** N of the record: that of all blocks, or the model's own where edits have made them differ. @returns {?Uint8Array} */
function neighbourhoodOf(model, pass) {
  if (!model.neighbourhood || !model.payload.header.own_neighbourhood) return null;
  const each = Object.values(pass.layers).flat().map(({ neighbourhood }) => neighbourhood);
  const alike = each.every((one) => JSON.stringify(one) === JSON.stringify(each[0])), chosen = alike ? each[0] : model.neighbourhood;
  return model.reuse.get("neighbourhood of the record", [chosen], () => neighbourhoodMask(chosen, model.clock.frames));
}

/** Attention weights of each head, and GateAtt's gate of the local branch, mean over heads. */
function mapsOf({ block, heads }, { weights, gates }, step, named, shown) {
  const maps = {}, wanted = (name) => !shown || shown.includes(name);
  for (const [branch, each] of Object.entries(weights)) {
    const first = each.length < heads ? block.headsOf(heads, branch)[0] : 0;
    each.forEach((map, head) => {
      const name = named(`attention/*/${branch}/${first + head}`);
      if (wanted(name)) maps[name] = map;
    });
  }
  const gate = named("gate/*");
  if (block?.gated === "maps" && wanted(gate)) maps[gate] = step("gate map", gates.local, () => meanOf(gates.local));
  return maps;
}

function meanOf(arrays) {
  const mean = new Float32Array(arrays[0].length);
  for (let at = 0; at < mean.length; at++) {
    let sum = 0;
    for (const array of arrays) sum += array[at];
    mean[at] = sum / arrays.length;
  }
  return mean;
}

/** Lines over time: attention received, gates, contributions. */
function lanesOf({ block, clock: { frames } }, traced, step, named) {
  const lanes = {}, { weights, gates, contributions, mask, silent } = traced;
  for (const [branch, maps] of Object.entries(weights)) {
    const masks = maps.map((_, head) => (branch === "local" || (branch === "combined" && block.combined === "joined" && head >= weights.global.length) ? mask : null));
    const profile = step(`profile of ${branch}`, [...maps, ...masks], () => profileOf(maps, masks, frames));
    if (profile) lanes[named("profile", branch)] = profile;
  }
  for (const [branch, gate] of Object.entries(gates)) {
    const pairs = block.gated === "maps", inside = pairs && branch === "local" ? mask : null;
    lanes[named("gate", branch)] = step(`gate lane of ${branch}`, [...pairs ? gate : [gate], inside],
      () => meanOf((pairs ? gate : [gate]).map((rows) => rowMeans(rows, inside, frames))));
  }
  for (const [branch, rows] of silent ? [] : Object.entries(contributions)) {
    lanes[named("contribution", branch)] = step(`contribution of ${branch}`, [rows], () => norms(rows, frames));
  }
  return lanes;
}

/** Mean over heads of the attention that each frame receives; null where a map was patched with weight outside its mask. */
function profileOf(maps, masks, frames) {
  const outside = maps.some((map, head) => masks[head] && map.some((weight, at) => weight !== 0 && !masks[head][at]));
  return outside ? null : meanOf(maps.map((map, head) => received(map, masks[head], frames)));
}

/** Attention that each key receives, by what even attention over the mask gives it. */
function received(map, mask, frames) {
  const sums = new Float64Array(frames), even = new Float64Array(frames);
  for (let query = 0; query < frames; query++) {
    const start = query * frames;
    let count = frames;
    if (mask) for (let key = count = 0; key < frames; key++) count += mask[start + key];
    for (let key = 0; key < frames; key++) {
      sums[key] += map[start + key];
      if (!mask || mask[start + key]) even[key] += 1 / count;
    }
  }
  return Float32Array.from(sums, (sum, key) => sum / even[key]);
}

/** Mean of each row, over the mask where there is one. */
function rowMeans(rows, mask, frames) {
  const width = rows.length / frames, means = new Float32Array(frames);
  for (let frame = 0; frame < frames; frame++) {
    let sum = 0, count = 0;
    for (let at = frame * width; at < (frame + 1) * width; at++) {
      if (mask && !mask[at]) continue;
      sum += rows[at];
      count += 1;
    }
    means[frame] = sum / count;
  }
  return means;
}

function norms(rows, frames) {
  const width = rows.length / frames, result = new Float32Array(frames);
  for (let frame = 0; frame < frames; frame++) {
    let squares = 0;
    for (let at = frame * width; at < (frame + 1) * width; at++) squares += rows[at] ** 2;
    result[frame] = Math.sqrt(squares);
  }
  return result;
}
