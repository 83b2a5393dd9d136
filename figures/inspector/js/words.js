/** Times and numbers as words, and round times for an axis. */

export function clock(seconds) {
  const rounded = Math.round(seconds * 100) / 100, whole = Math.floor(rounded + 1e-6), rest = rounded - whole;
  const minutes = `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
  return rest > 0.005 ? minutes + rest.toFixed(2).slice(1) : minutes;
}

/** A number with the digits that it carries. */
export function formatNumber(value, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  return (size < 1e-3 || size >= 1e5 ? value.toExponential(digits - 1) : Number(value.toPrecision(digits)).toString())
    .replace("-", "−");
}

/** Round steps in seconds, at most `count` of them. */
export function ticks(from, to, count) {
  const steps = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 1200, 3600];
  const step = steps.find((each) => (to - from) / each <= count) ?? 7200;
  const found = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) found.push(at);
  return found;
}

/** A word of a command line: quoted, so that a shell leaves it as it is. */
export function shellQuoted(word) {
  return /["$`\\!]/.test(word) ? `'${word.replace(/'/g, "'\\''")}'` : `"${word}"`;
}
