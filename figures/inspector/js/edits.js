/** Edits of a pass as texts, as `analysis/interventions/edit_texts.py` reads them. */

/**
 * Where an edit is made; seconds count from the clip's first frame, null = all.
 * @typedef {{stream: string, layer: string, branch: string, heads: number[], seconds: ?number[], queries: ?number[], keys: ?number[]}} Place
 *   stream, layer and branch may be "*" = all; heads from 0, none = all
 */

const spanText = (word, seconds) => (seconds ? ` ${word} ${seconds.join("..")}` : "");

const headsText = (heads) => (heads.length ? `[head${heads.length > 1 ? "s" : ""} ${heads.join(", ")}]` : "");

function siteText({ stream, layer, branch, heads }, quantity) { return `${stream}/${layer}/${branch}/${quantity}${headsText(heads)}`; }

/** Queries no longer attend to keys. Seconds alone are of the keys. @param {Place} place @param {boolean} renormalise whether the other weights grow */
export function knockOutText(place, renormalise) {
  return `knock-out ${siteText(place, "weights")}${spanText("queries", place.queries)}${spanText("keys", place.keys ?? place.seconds)}`
    + (renormalise ? "" : " after-softmax");
}

/** What heads hand on is multiplied, at some seconds, or at those of the queries. @param {Place} place */
export function scaleText(place, factor) {
  return `scale ${siteText(place, "contexts")} by ${factor}${spanText("at", place.seconds ?? place.queries)}`;
}

/** The gate of a branch; of all branches it is the global one. @param {Place} place @param {boolean} byHead whether gates have heads */
export function forceGateText({ stream, layer, branch, heads, seconds, queries }, value, byHead) {
  return `force-gate ${stream}/${layer}/gate${byHead ? headsText(heads) : ""} to ${value}${["*", "global"].includes(branch) ? "" : ` branch ${branch}`}`
    + spanText("at", seconds ?? queries);
}

/** Of the branch, or of all local ones. @param {string} pattern as TP30 @param {Place} place @param {string[]} local branches */
export function neighbourhoodText({ stream, layer, branch }, pattern, local) {
  const own = local.includes(branch) ? branch : local.length > 1 ? "*" : local[0];
  return `neighbourhood ${stream}/${layer}/${own}/neighbourhood as ${pattern}`;
}

/** @param {Place} place with seconds */
export function dropText({ stream, seconds }) { return `drop ${stream}/input${spanText("at", seconds)}`; }

/** @param {Place} place with seconds @param {number} to second at which they start afterwards */
export function moveText({ stream, seconds }, to) { return `move ${stream}/input${spanText("at", seconds)} to ${to}`; }

/** An edit without the number that a slider sets: two with the same are one edit at two places of the slider. */
export function withoutNumber(edit) { return edit.replace(/ (by|to) -?[\d.e+-]+/, " $1"); }
