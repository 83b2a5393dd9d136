/** Neighbourhoods N_i: which frames a local branch lets a frame attend to. */

import { EditError } from "./texts.js";

const LARGEST = 2 ** 31 - 1, MOST_SCALES = 16;
const NAMES = { BD: "BlockDiagonal", TP: "Toeplitz", TD: "ToeplitzDilated" };

/**
 * A neighbourhood in the paper's words: BDn, TPn or TDnxd; or given segments by their first frames: SP0-12-40; or several: TP5+TP15.
 * @returns {{kind: "BD"|"TP"|"TD"|"SP", size: number, dilation: number, starts: number[]}} @throws {EditError} anything else
 */
export function parseNeighbourhood(text) {
  if (text.includes("+")) return parseScales(text.split("+").map(parseNeighbourhood), text);
  const spans = /^SP(\d{1,10}(?:-\d{1,10})*)$/i.exec(text);
  if (spans) return { dilation: 1, size: 1, kind: "SP", starts: parseStarts(spans[1]) };
  const match = /^(BD|TP|TD)(\d+)(?:[x×](\d+))?$/i.exec(text), kind = match?.[1].toUpperCase();
  if (/^CP\d/i.test(text)) throw new EditError(`neighbourhood '${text}' is of change points, which a page does not look for; give segments, as SP0-9-31`);
  if (/^SHOTS$/i.test(text)) throw new EditError(`neighbourhood '${text}' is of the video's shots, which a page does not know; give segments, as SP0-9-31`);
  if (!match || Boolean(match[3]) !== (kind === "TD")) {
    throw new EditError(`neighbourhood '${text}'; expected BDn, TPn or TDnxd, for example BD20, TP30, TD60x4; or CP4, SP0-9-31, SHOTS`);
  }
  const sizes = { size: Number(match[2]), ...(kind === "TD" ? { dilation: Number(match[3]) } : {}) };
  for (const [name, value] of Object.entries(sizes)) {
    if (value < 1 || value > LARGEST) {
      throw new EditError(`${NAMES[kind]}: ${name} is ${value}; expected a whole number of at least 1 and at most ${LARGEST}`);
    }
  }
  return { dilation: 1, ...sizes, kind };
}

/** Several, whose union it is. */
function parseScales(parts, text) {
  if (parts.some(({ kind }) => !NAMES[kind])) throw new EditError(`Scales: got ${text.split("+").join(", ")}; expected BDn, TPn or TDnxd`);
  if (new Set(parts.map((part) => JSON.stringify(part))).size < parts.length || parts.length > MOST_SCALES) {
    throw new EditError(`Scales: got ${text}; expected 1 to ${MOST_SCALES} neighbourhoods, no two alike`);
  }
  return { kind: "scales", parts };
}

function parseStarts(text) {
  const starts = text.split("-").map(Number);
  if (starts[0] !== 0 || starts.some((start, place) => start > LARGEST || (place && start <= starts[place - 1]))) {
    throw new EditError(`Spans: starts are ${text}; expected ascending frames, the first 0`);
  }
  return starts;
}

/** @returns {Uint8Array} shape (frames, frames), 1 where frame `key` is in N of frame `query` */
export function neighbourhoodMask({ kind, size, dilation, starts, parts }, frames) {
  if (parts) {
    const [first, ...others] = parts.map((part) => neighbourhoodMask(part, frames));
    return others.reduce((union, other) => union.map((there, at) => there | other[at]), first);
  }
  const mask = new Uint8Array(frames * frames), reach = Math.floor(size / 2);
  const segment = Array.from({ length: frames }, (_, frame) => kind === "SP" ? starts.filter((start) => start <= frame).length : 0);
  for (let query = 0; query < frames; query++) {
    for (let key = 0; key < frames; key++) {
      const distance = Math.abs(query - key);
      const near = kind === "SP" ? segment[query] === segment[key]
        : kind === "BD" ? Math.floor(query / size) === Math.floor(key / size) : distance <= reach && distance % dilation === 0;
      if (near) mask[query * frames + key] = 1;
    }
  }
  return mask;
}
