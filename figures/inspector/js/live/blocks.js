/** The attention blocks: what the pass must know of each, as `gmsa_models/attention/blocks.py` says it. */

const all = (heads) => [0, heads];

/**
 * By the name of the attention in a model's config.
 * @typedef {{branches: string[], combined: ""|"joined"|"blended", gated: ""|"maps"|"outputs",
 *   headsOf: (heads: number, branch: string) => number[]}} Block
 *   combined: how the maps of the branches make one a head; gated: what gates weigh; headsOf: first head, and the one after the last
 */
const BLOCKS = {
  baseline: { branches: ["global"], combined: "", gated: "", headsOf: all },
  "share-att": {
    branches: ["global", "local"], combined: "joined", gated: "",
    headsOf: (heads, branch) => ({ global: [0, heads / 2], local: [heads / 2, heads] })[branch] ?? [0, heads],
  },
  "gate-att": { branches: ["global", "local"], combined: "blended", gated: "maps", headsOf: all },
  "gate-op": { branches: ["global", "local"], combined: "", gated: "outputs", headsOf: all },
  local: { branches: ["local"], combined: "", gated: "", headsOf: all },
  none: null,
};
const STACKS = { "local-then-global": ["local", "baseline"] };

/** The block of each layer. @param {string} neighbourhood as text, whose scales name branches @returns {?Block[]} null: no attention */
export function blocksOf(attention, neighbourhood, layers) {
  if (attention === "gate-op-scales") {
    const scales = { branches: ["global", ...neighbourhood.split("+")], combined: "", gated: "outputs", headsOf: all };
    return Array(layers).fill(scales);
  }
  const kinds = STACKS[attention] ?? Array(layers).fill(attention);
  return kinds.map((kind) => BLOCKS[kind]);
}

export function localBranches({ branches }) { return branches.filter((branch) => branch !== "global"); }

/** Branches of which gates are stages: "" of the first; of more than two, each other by its name. */
export function gateBranches({ gated, branches }) {
  if (!gated) return [];
  return branches.length > 2 ? ["", ...branches.slice(1)] : [""];
}
