/** Edits from their texts, as `knock-out visual/0/local/weights[head 3] keys 60..70`: the grammar of `edit_texts.py`. */

import { EditError, general, quoted } from "./texts.js";
import { parseNeighbourhood } from "./masks.js";
import { parseSite, siteText } from "./sites.js";

const OWN_SOURCES = ["mean", "zero", "own"];
const PATCHED = ["input", "queries", "keys", "values", "logits", "weights", "gate", "contexts", "output", "encoded", "pooled"];
const NUMBER = /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?$/;
const BRANCH = /^(?:global|local|(?:BD|TP|TD)\d+(?:x\d+)?)$/;
const TOKEN = /"(?:[^"\\]|\\.)*"|[^\s"]+/y;
const SITE = /\S+?(?:\[[^\]]*\]|(?=\s|$))/y;

/** A value that is not of its word's form; with a text where more than that is wrong. */
class Unread extends Error {}

const KINDS = {
  span: ["seconds A..B", (token) => {
    const at = token.indexOf("..");
    if (at < 0) throw new Unread();
    return [readNumber(token.slice(0, at)), readNumber(token.slice(at + 2))];
  }],
  number: ["a number", readNumber],
  branch: ["global or local, or a local branch by its name, as TP5", (token) => {
    if (!BRANCH.test(token)) throw new Unread();
    return token;
  }],
  source: ["mean, zero, own or a clip", readSource],
  neighbourhood: ["a neighbourhood, as TP30", parseNeighbourhood],
};

// Each word: the field that it sets, the kind of its value ("flag": none, the field becomes false), whether it is needed.
const AT = ["at", "span"];
const FORMS = {
  "knock-out": {
    kind: "KnockOut", quantities: ["weights"], fields: { renormalise: true, queries: null, keys: null },
    words: { queries: ["queries", "span"], keys: ["keys", "span"], "after-softmax": ["renormalise", "flag"] },
    example: "knock-out SITE [queries A..B] [keys A..B] [after-softmax]",
  },
  patch: {
    kind: "Patch", quantities: PATCHED, fields: { at: null, start: null }, check: checkPatch,
    words: { from: ["source", "source", true], at: AT, start: ["start", "number"] },
    example: "patch SITE from mean|zero|own|CLIP [at A..B] [start S]",
  },
  "force-gate": {
    kind: "ForceGate", quantities: ["gate"], fields: { branch: "global", at: null }, check: checkGate,
    words: { to: ["value", "number", true], branch: ["branch", "branch"], at: AT },
    example: "force-gate SITE to VALUE [branch global|local|TP5] [at A..B]",
  },
  neighbourhood: {
    kind: "ReplaceNeighbourhood", quantities: ["neighbourhood"], fields: {},
    words: { as: ["neighbourhood", "neighbourhood", true] }, example: "neighbourhood SITE as TP30",
  },
  scale: {
    kind: "ScaleHead", quantities: ["contexts"], fields: { at: null },
    words: { by: ["factor", "number", true], at: AT }, example: "scale SITE by FACTOR [at A..B]",
  },
  drop: {
    kind: "DropFrames", quantities: ["input"], fields: {}, check: checkStream,
    words: { at: ["at", "span", true] }, example: "drop SITE at A..B",
  },
  move: {
    kind: "MoveFrames", quantities: ["input"], fields: {}, check: checkMove,
    words: { at: ["at", "span", true], to: ["to", "number", true] }, example: "move SITE at A..B to S",
  },
};

/**
 * The edits of some texts, each of which may hold several with `;` between them.
 * @param {string[]} texts @returns {object[]} each with `kind`, `site`, `text` and the fields of its kind
 * @throws {EditError} a text of another form; a site or a value that the edit does not take
 */
export function parseEdits(texts) {
  return texts.flatMap((text) => pieces(text).map(parseEdit));
}

/** A text at each `;` outside quotes. */
function pieces(text) {
  const parts = [""];
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[^]/g)) {
    if (token === ";") parts.push("");
    else parts[parts.length - 1] += token;
  }
  return parts.map((part) => part.trim());
}

function parseEdit(text) {
  const tokens = new Tokens(text), verb = tokens.take("a verb", Object.keys(FORMS));
  const form = FORMS[verb], edit = { kind: form.kind, text, site: tokens.site() }, given = new Set();
  while (tokens.more) {
    const at = tokens.place, name = tokens.take(`a word of ${verb}`, Object.keys(form.words));
    const [field, kind] = form.words[name];
    if (given.has(field)) throw tokens.error(at, `${quoted(name)} a second time`, "each word once");
    given.add(field);
    edit[field] = kind === "flag" ? false : tokens.value(name, kind);
  }
  const missing = Object.keys(form.words).find((name) => form.words[name][2] && !given.has(form.words[name][0]));
  if (missing) throw tokens.error(text.length, "the end", `${quoted(missing)}, as in ${quoted(form.example)}`);
  const complete = { ...form.fields, ...edit }, wrong = problem(form, complete);
  if (wrong) throw new EditError(`edit ${quoted(text)}: ${wrong}`);
  return complete;
}

/** The words of a text, one after another, with their places. */
class Tokens {
  constructor(text) {
    Object.assign(this, { text, place: 0 });
    this.skip();
  }

  get more() { return this.place < this.text.length; }

  /** A word of those that are known. */
  take(what, known) {
    const [at, token] = this.next(what, known);
    if (!known.includes(token)) throw this.error(at, quoted(token), `${what}: ${known.join(", ")}`);
    return token;
  }

  /** A site, whose heads may have spaces between them. */
  site() {
    const at = this.place, match = this.match(SITE);
    if (!match) throw this.error(at, "the end", "a site, as visual/0/local/weights[head 3]");
    return this.read(at, () => parseSite(match));
  }

  /** The value after a word. */
  value(name, kind) {
    const [expected, read] = KINDS[kind], [at, token] = this.next(`the value of ${name}`, [expected]);
    try {
      return this.read(at, () => read(token));
    } catch (error) {
      if (!(error instanceof Unread)) throw error;
      throw this.error(at, quoted(token), error.message || `${expected} after ${quoted(name)}`);
    }
  }

  read(at, make) {
    try {
      return make();
    } catch (error) {
      throw error instanceof EditError ? new EditError(`edit ${quoted(this.text)}, character ${at + 1}: ${error.message}`) : error;
    }
  }

  error(at, received, expected) {
    return new EditError(`edit ${quoted(this.text)}, character ${at + 1}: got ${received}; expected ${expected}`);
  }

  next(what, known) {
    const at = this.place, token = this.match(TOKEN);
    if (!token) throw this.error(at, this.more ? quoted(this.text.slice(at)) : "the end", `${what}: ${known.join(", ")}`);
    return [at, token];
  }

  match(pattern) {
    pattern.lastIndex = this.place;
    const match = pattern.exec(this.text);
    if (match) this.place = pattern.lastIndex;
    this.skip();
    return match?.[0];
  }

  skip() { while (this.more && /\s/.test(this.text[this.place])) this.place += 1; }
}

function readNumber(token) {
  if (!NUMBER.test(token) || !Number.isFinite(Number(token))) throw new Unread();
  return Number(token);
}

function readSource(token) {
  if (OWN_SOURCES.includes(token)) return token;
  if (token.startsWith("tensor:")) throw new Unread("a source that can be found again: the values of this tensor are not in the text");
  let name = token;
  try {
    if (token.startsWith('"')) name = JSON.parse(token);
  } catch {
    throw new Unread("a clip's name, between quotes as JSON writes them");
  }
  throw new Unread(`mean, zero or own: no clip ${quoted(name)} is given here`);
}

/** What is wrong with an edit whose words were read; an empty text where nothing is. */
function problem(form, edit) {
  if (!form.quantities.includes(edit.site.quantity)) {
    return `${edit.kind} at ${siteText(edit.site)}; expected a site of ${form.quantities.join(" or ")}`;
  }
  const streamed = form.check === checkStream || form.check === checkMove ? checkStream(edit) : "";
  if (streamed) return streamed;
  for (const name of ["queries", "keys", "at"]) {
    const span = edit[name];
    if (span && !(span[0] >= 0 && span[0] < span[1])) {
      return `${name} is ${general(span[0])} to ${general(span[1])} s; expected a start of at least 0 and an end after it`;
    }
  }
  return form.check?.(edit) ?? "";
}

function checkStream({ kind, site }) {
  return site.layer === null ? "" : `${kind} at ${siteText(site)}; expected the input of a stream, as visual/input`;
}

function checkMove({ to }) { return to >= 0 ? "" : `to is ${general(to)} s; expected at least 0`; }

function checkGate({ value }) { return value >= 0 && value <= 1 ? "" : `a gate of ${general(value)}; expected a number from 0 to 1`; }

function checkPatch({ source, start, at, site }) {
  if (start !== null && source !== "own") return `start is ${general(start)} s, but the source is no clip; expected a clip or 'own'`;
  if (site.quantity === "pooled" && (source === "own" || at)) return `${siteText(site)} is one vector a clip; it takes no seconds`;
  if (source === "own" && start === null) return "a patch from the clip's own seconds needs the second at which they start";
  return start !== null && start < 0 ? `start is ${general(start)} s; expected at least 0` : "";
}
