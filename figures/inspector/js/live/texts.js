/** Texts as Python writes them, so that an error reads alike here and there. */

/** An edit that cannot be read or made. */
export class EditError extends Error {}

/** A text between quotes. */
export function quoted(text) {
  const escaped = text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll("\t", "\\t").replaceAll("\r", "\\r");
  return text.includes("'") && !text.includes('"') ? `"${escaped}"` : `'${escaped.replaceAll("'", "\\'")}'`;
}

/** A number of six digits at most, as `{:g}` writes it. */
export function general(value) {
  const [digits, power] = value.toExponential(5).split("e"), exponent = Number(power);
  if (exponent >= -4 && exponent < 6) return String(Number(value.toPrecision(6)));
  return `${Number(digits)}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
}
