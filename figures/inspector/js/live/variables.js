/** What a pass came to, under the names that the payload of its record has: see docs/inspector_payload.md. */

import { neighbourhoodMask } from "./masks.js";

/**
 * @param {Model} model @param {object} pass of `Model.answer` @param {?string[]} shown names of the maps that are wanted; null: all
 * @returns {{logits: Float32Array, variables: Object<string, Float32Array|Uint8Array>}} the part of the model's stream
 */
export function answerOf(model, { logits, layers, neighbourhoods }, shown) {
  const { own } = model, variables = {}, masks = masksOf(model, neighbourhoods);
  for (const [layer, index] of model.payload.header.indices.entries()) {
    if (index === null) continue;
    for (const [name, mask] of Object.entries(masks)) variables[`${index}/neighbourhood${name}`] = mask;
    const step = (name, inputs, make) => model.reuse.get(`${own}/${layer}/${name}`, inputs, make);
    Object.assign(variables, mapsOf(model, model.blocks[layer], layers[layer], step, (name) => `${index}/${name.replace("*", own)}`, shown),
      lanesOf(model, model.blocks[layer], layers[layer], step, (variable, branch) => `${index}/lane/${variable}/${own}/${branch}`));
  }
  return { logits, variables };
}

/**
 * N of the record: that of all blocks, or the model's own where edits have made them differ; of several local branches their
 * union as "", and each of the first block's as "/TP5".
 * @param {object[]} each of `Model.neighbourhoods` @returns {Object<string, Uint8Array>}
 */
function masksOf(model, each) {
  if (!model.neighbourhood || !model.payload.header.own_neighbourhood || model.own !== model.streams[0]) return {};
  const listed = each.map((one) => Object.values(one)), alike = listed.every((one) => JSON.stringify(one) === JSON.stringify(listed[0]));
  const [first] = listed, whole = first.length < 2 || first.every(({ kind }) => kind !== "SP"), chosen = !alike || !whole ? model.neighbourhood : first.length > 1 ? { kind: "scales", parts: first } : first[0];
  const made = (name, neighbourhood) => model.reuse.get(`neighbourhood of the record ${name}`, [JSON.stringify(neighbourhood)],
    () => neighbourhoodMask(neighbourhood, model.clock.frames));
  const own = first.length > 1 ? Object.entries(each[0]).map(([branch, one]) => [`/${branch}`, made(branch, one)]) : [];
  return Object.fromEntries([["", made("", chosen)], ...own]);
}

/** Attention weights of each head, and GateAtt's gate of the local branch, mean over heads. */
function mapsOf({ heads }, block, { weights, gates, combined }, step, named, shown) {
  const maps = {}, wanted = (name) => !shown || shown.includes(name), gateMap = named("gate/*");
  for (const [branch, each] of Object.entries(weights)) {
    const first = each.length < heads ? block.headsOf(heads, branch)[0] : 0;
    each.forEach((map, head) => {
      const name = named(`attention/*/${branch}/${first + head}`);
      if (wanted(name)) maps[name] = map;
    });
  }
  for (const [head, { map }] of (combined ?? []).entries()) {
    const name = named(`attention/*/combined/${head}`);
    if (wanted(name)) maps[name] = map();
  }
  if (block?.gated === "maps" && wanted(gateMap)) maps[gateMap] = step("gate map", gates.local, () => meanOf(gates.local));
  return maps;
}

function meanOf(arrays) {
  const mean = new Float32Array(arrays[0].length);
  for (let at = 0; at < mean.length; at++) {
    let sum = 0;
    for (let each = 0; each < arrays.length; each++) sum += arrays[each][at];
    mean[at] = sum / arrays.length;
  }
  return mean;
}

/** Lines over time: attention received, gates, contributions. */
function lanesOf({ heads, clock: { frames } }, block, { weights, gates, combined, contributions, masks, silent, beyond }, step, named) {
  const lanes = {}, pairs = block?.gated === "maps";
  for (const [branch, maps] of Object.entries(weights)) {
    const joined = branch === "combined" && block.combined === "joined", mask = masks[joined ? "local" : branch];
    const local = joined ? heads / 2 : mask ? 0 : heads; // the first that is
    if (beyond.length && maps.some((map, head) => head >= local && isBeyond(map, mask))) continue;
    const even = mask && step(`even shares of ${branch}`, [mask], () => evenShares(mask, frames));
    lanes[named("profile", branch)] = meanOf(maps.map((map, head) => step(`received of ${branch}/${head}`, [map, even],
      () => received(map, head >= local ? even : null, frames))));
  }
  if (combined) lanes[named("profile", "combined")] = meanOf(combined.map(({ received: sums }) => sums));
  for (const [branch, each] of Object.entries(gates ?? {})) {
    const inside = pairs ? masks[branch] ?? null : null;
    lanes[named("gate", branch)] = meanOf(each.map((rows, head) => step(`gate lane of ${branch}/${head}`, [rows, inside],
      () => rowMeans(rows, inside, frames))));
  }
  for (const [branch, rows] of silent ? [] : Object.entries(contributions)) {
    lanes[named("contribution", branch)] = step(`contribution of ${branch}`, [rows], () => norms(rows, frames));
  }
  return lanes;
}

/** Whether a map has weight beyond its mask. */
function isBeyond(map, mask) {
  for (let at = 0; at < map.length; at++) if (map[at] !== 0 && !mask[at]) return true;
  return false;
}

/** What even attention over a mask gives each key. */
function evenShares(mask, frames) {
  const even = new Float64Array(frames);
  for (let start = 0; start < mask.length; start += frames) {
    let count = 0;
    for (let key = 0; key < frames; key++) count += mask[start + key];
    for (let key = 0; key < frames; key++) if (mask[start + key]) even[key] += 1 / count;
  }
  return even;
}

/** Attention that each key receives, by what even attention gives it; null: 1 each. */
function received(map, even, frames) {
  const sums = new Float64Array(frames), four = map.length - map.length % (4 * frames);
  for (let at = 0; at < four; at += 3 * frames) { // the sums are what takes time: four queries at once
    for (let key = 0; key < frames; key++, at++) sums[key] += map[at] + map[at + frames] + map[at + 2 * frames] + map[at + 3 * frames];
  }
  for (let at = four; at < map.length; at += frames) for (let key = 0; key < frames; key++) sums[key] += map[at + key];
  return Float32Array.from(sums, (sum, key) => (even ? sum / even[key] : sum));
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
    for (let at = frame * width; at < (frame + 1) * width; at++) squares += rows[at] * rows[at];
    result[frame] = Math.sqrt(squares);
  }
  return result;
}
