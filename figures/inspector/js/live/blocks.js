/** The four attention blocks: what the pass must know of each, as `gmsa_models/attention/blocks.py` says it. */

const all = (heads) => [0, heads];

/**
 * By the name of the attention in a model's config.
 * @typedef {{branches: string[], combined: ""|"joined"|"blended", gated: ""|"maps"|"outputs",
 *   headsOf: (heads: number, branch: string) => number[]}} Block
 *   combined: how the maps of the branches make one a head; gated: what gates weigh; headsOf: first head, and the one after the last
 */
export const BLOCKS = {
  baseline: { branches: ["global"], combined: "", gated: "", headsOf: all },
  "share-att": {
    branches: ["global", "local"], combined: "joined", gated: "",
    headsOf: (heads, branch) => ({ global: [0, heads / 2], local: [heads / 2, heads] })[branch] ?? [0, heads],
  },
  "gate-att": { branches: ["global", "local"], combined: "blended", gated: "maps", headsOf: all },
  "gate-op": { branches: ["global", "local"], combined: "", gated: "outputs", headsOf: all },
  none: null,
};
