/** A list of edits made ready for one pass: what is changed at which stage, as `analysis/interventions/plan.py` says it. */

import { EditError, general, quoted } from "./texts.js";
import { gateBranches } from "./blocks.js";
import { headsAt, matchingSites, siteText } from "./sites.js";
import { filled, patched, scaled, withoutEdges } from "./changes.js";
import { inOrder } from "./orders.js";

/** The first frame that starts at a second or later. */
function frameFrom(second, { seconds }) { return Math.ceil(second / seconds - 1e-9); }

/** The frames that start in some seconds: the first, and the one after the last; null: all. @throws {EditError} none does */
function framesIn(span, clock) {
  if (!span) return [0, clock.frames];
  const [first, stop] = span.map((second) => Math.min(clock.frames, frameFrom(second, clock)));
  if (first < stop) return [first, stop];
  throw new EditError(`no frame starts in ${general(span[0])} to ${general(span[1])} s; the clip has ${clock.frames} frames of `
    + `${general(clock.seconds)} s`);
}

export class Plan {
  /**
   * @param {object} model @param {object[]} edits of `parseEdits`, in any order: at one stage what replaces values comes first
   * @param {{frames: number, seconds: number}} clock
   * @throws {EditError} a site that the model lacks, an edit that does not fit the clip, two that replace the same values
   */
  constructor(model, edits, clock) {
    Object.assign(this, { model, clock, actions: new Map(), dropped: new Map() });
    for (const edit of edits) {
      for (const site of matchingSites(model, edit.site)) {
        if (edit.kind === "DropFrames") this.dropped.set(site.stream, [...this.dropped.get(site.stream) ?? [], framesIn(edit.at, clock)]);
        else this.add(site, edit);
      }
    }
    for (const actions of this.actions.values()) actions.sort((one, other) => other.sets - one.sets);
  }

  add(site, edit) {
    const heads = site.heads.length ? site.heads : headsAt(this.model, site), first = headsAt(this.model, site)[0] ?? 0;
    const action = { edit, heads, ...this.action(site, edit, heads.map((head) => head - first)) };
    const name = stageName(site.stream, site.layer, action.branch ?? site.branch, action.quantity ?? site.quantity);
    const before = this.actions.get(name) ?? [];
    const other = before.find((each) => each.sets && action.sets && overlap(each, action));
    if (other) {
      const [one, two] = [other, action].map(({ edit: { kind, site: place } }) => `${kind} at ${siteText(place)}`);
      throw new EditError(`${one} and ${two} replace the same values at ${site.quantity}`);
    }
    this.actions.set(name, [...before, action]);
  }

  /** What is done to the value of a site. @param {number[]} places of the heads in the value */
  action(site, edit, places) {
    const { clock } = this, span = edit.kind === "KnockOut" ? framesIn(edit.queries, clock) : null;
    switch (edit.kind) {
      case "KnockOut": {
        const keys = framesIn(edit.keys, clock);
        return { sets: false, span, quantity: edit.renormalise ? "mask" : "weights", change: (value) => withoutEdges(value, places, span, keys, clock.frames) };
      }
      case "ForceGate": {
        const block = this.model.blocks[site.layer], { branches } = block, branch = site.branch || edit.branch, at = framesIn(edit.at, clock);
        if (!branches.includes(branch)) {
          throw new EditError(`${edit.kind} at ${siteText(edit.site)}: no branch ${quoted(branch)}; the layer has ${branches.join(", ")}`);
        }
        const own = gateBranches(block).includes(branch), of = own || branch === branches[0] ? edit.value : 1 - edit.value;
        return { sets: true, span: at, branch: own ? branch : "", change: (value) => filled(value, places, at, of, clock.frames) };
      }
      case "ReplaceNeighbourhood":
        return { sets: true, span: [0, clock.frames], change: () => edit.neighbourhood };
      case "ScaleHead": {
        const at = framesIn(edit.at, clock);
        return { sets: false, span: at, change: (value) => scaled(value, places, at, edit.factor, clock.frames) };
      }
      case "MoveFrames": {
        const order = this.order(edit);
        return { sets: true, span: [0, clock.frames], change: (value) => inOrder(value, order) };
      }
      default: {
        const frames = site.quantity === "pooled" ? 1 : clock.frames, at = framesIn(edit.at, { ...clock, frames });
        const zero = site.layer === null && site.quantity === "input" ? this.model.stream.zero : null; // of other streams only the place counts
        const rows = { source: edit.source, start: this.start(edit, at), zero };
        return { sets: true, span: at, change: (value, before) => patched(value, before, places, at, rows, frames) };
      }
    }
  }

  /** The frame at which the clip's own other seconds start. */
  start({ source, start }, [first, stop]) {
    if (source !== "own") return 0;
    const frame = frameFrom(start, this.clock), count = stop - first;
    if (frame + count <= this.clock.frames) return frame;
    throw new EditError(`${count} frames from ${general(start)} s on; the clip ends at ${general(this.clock.frames * this.clock.seconds)} s`);
  }

  /** Which frame of the clip stands where after frames were moved. */
  order({ at, to }) {
    const { clock } = this, [first, stop] = framesIn(at, clock), place = frameFrom(to, clock);
    if (place + stop - first > clock.frames) {
      throw new EditError(`${stop - first} frames from ${general(at[0])} s moved to ${general(to)} s; the clip ends at `
        + `${general(clock.frames * clock.seconds)} s`);
    }
    const frames = Array.from({ length: clock.frames }, (_, frame) => frame);
    const others = frames.filter((frame) => frame < first || frame >= stop);
    return [...others.slice(0, place), ...frames.slice(first, stop), ...others.slice(place)];
  }

  /** Of a stage: the changes in the order in which they are made, and a text that says them. */
  changes(stream, layer, branch, quantity) {
    const actions = this.actions.get(stageName(stream, layer, branch, quantity)) ?? [];
    return { actions, text: actions.map(({ edit, heads }) => `${edit.text} of ${heads}`).join(";") };
  }

  /** Frames of a stream that are not dropped; null: all. @returns {?Uint8Array} @throws {EditError} none is left */
  valid(stream) {
    const spans = this.dropped.get(stream);
    if (!spans) return null;
    const valid = new Uint8Array(this.clock.frames).fill(1);
    for (const [first, stop] of spans) valid.fill(0, first, stop);
    if (!valid.includes(1)) throw new EditError(`every frame of ${quoted(stream)} is dropped; at least one must be left`);
    return valid;
  }
}

function stageName(stream, layer, branch, quantity) { return [stream, layer ?? "", branch, quantity].join("/"); }

function overlap(one, other) {
  const heads = !one.heads.length || !other.heads.length || one.heads.some((head) => other.heads.includes(head));
  return heads && Math.max(one.span[0], other.span[0]) < Math.min(one.span[1], other.span[1]);
}
