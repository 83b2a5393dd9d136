/** Sites: the names of everything in a pass that can be changed, as `analysis/interventions/sites.py` has them. */

import { gateBranches, localBranches } from "./blocks.js";
import { EditError } from "./texts.js";

const FORM = "stream/quantity, stream/layer/quantity or stream/layer/branch/quantity, with [head 3] or [heads 1, 3] behind it "
  + "where heads are chosen, as in visual/0/local/weights[head 3]";
const PATTERN = new RegExp("^(?<stream>[^/\\[\\]\\s]+)(?:/(?<layer>\\d+|\\*)(?:/(?<branch>[A-Za-z][A-Za-z0-9]*|\\*))?)?/(?<quantity>[a-z]+)"
  + "(?:\\[heads? (?<heads>\\d+(?: *, *\\d+)*)\\])?$");
// What a block computes, in the order of computation; of `WHOLE` there is one, of the others one a branch.
const QUANTITIES = ["input", "queries", "keys", "values", "neighbourhood", "mask", "logits", "weights", "gate", "contexts", "output"];
const WHOLE = ["input", "gate", "output"];
const BY_HEAD = ["queries", "keys", "values", "mask", "logits", "weights", "contexts"];

/**
 * @typedef {{stream: string, layer: ?(number|"*"), branch: string, quantity: string, heads: number[]}} Site
 *   heads: as they stand among all of the layer; none: all
 */

/** @param {string} text @returns {Site} @throws {EditError} a text of another form */
export function parseSite(text) {
  const match = PATTERN.exec(text);
  if (!match) throw new EditError(`'${text}' is no site; expected ${FORM}`);
  const { stream, layer, branch, quantity, heads } = match.groups;
  const numbers = heads ? heads.split(",").map(Number) : [];
  return {
    stream, quantity, branch: branch ?? "", layer: layer === undefined ? null : layer === "*" ? layer : Number(layer),
    heads: [...new Set(numbers)].sort((one, other) => one - other),
  };
}

/** @param {Site} site */
export function siteText({ stream, layer, branch, quantity, heads }) {
  const place = [stream, ...(layer === null ? [] : [layer]), ...(branch ? [branch] : []), quantity].join("/");
  return place + (heads.length ? `[head${heads.length > 1 ? "s" : ""} ${heads.join(", ")}]` : "");
}

/** All sites of a model, in the order of computation. @returns {Site[]} */
function sitesOf(model) {
  return model.streams.flatMap((stream) => {
    const site = (quantity, layer = null, branch = "") => ({ stream, layer, branch, quantity, heads: [] });
    const layers = Array.from({ length: model.layers }, (_, layer) => [
      ...(model.blocks[layer] ? QUANTITIES.flatMap((quantity) => branchesOf(model.blocks[layer], quantity).map((branch) => site(quantity, layer, branch))) : []),
      site("encoded", layer),
    ]);
    return [site("input"), ...layers.flat(), site("pooled")];
  });
}

function branchesOf(block, quantity) {
  if (quantity === "neighbourhood") return localBranches(block);
  if (WHOLE.includes(quantity)) return quantity === "gate" ? gateBranches(block) : [""];
  return block.branches;
}

/** Which heads of the layer a site has; none where it has no axis of heads. @returns {number[]} */
export function headsAt(model, { layer, branch, quantity }) {
  const block = model.blocks[layer];
  if (layer === null || !block) return [];
  const own = BY_HEAD.includes(quantity) ? block.headsOf(model.heads, branch)
    : quantity === "gate" && block.gated === "maps" ? [0, model.heads] : [0, 0];
  return Array.from({ length: own[1] - own[0] }, (_, head) => own[0] + head);
}

/** The sites of a model that a name stands for. @param {Site} wanted @returns {Site[]} @throws {EditError} no such site or head */
export function matchingSites(model, wanted) {
  const known = sitesOf(model), fitting = known.filter((site) => fits(wanted, site));
  if (!fitting.length) throw new EditError(`the model has no site ${siteText(wanted)}; it has ${known.map(siteText).join(", ")}`);
  if (!wanted.heads.length) return fitting;
  const chosen = fitting.map((site) => ({ ...site, heads: wanted.heads.filter((head) => headsAt(model, site).includes(head)) }));
  const missing = wanted.heads.filter((head) => !chosen.some(({ heads }) => heads.includes(head)));
  if (missing.length) {
    const has = fitting.map((site) => `${siteText(site)} has ${headsAt(model, site).join(", ") || "no heads"}`).join("; ");
    throw new EditError(`no head ${Math.min(...missing)} at ${siteText(wanted)}; ${has}`);
  }
  return chosen.filter(({ heads }) => heads.length);
}

function fits(wanted, site) {
  const layer = wanted.layer === site.layer || (wanted.layer === "*" && site.layer !== null);
  const branch = wanted.branch === site.branch || (wanted.branch === "*" && Boolean(site.branch));
  return layer && branch && wanted.quantity === site.quantity && matches(wanted.stream, site.stream);
}

/** Whether a name is one that a pattern with `*` and `?` stands for. */
function matches(pattern, name) {
  const source = pattern.replace(/[.+^${}()|\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".");
  return new RegExp(`^${source}$`, "s").test(name);
}
