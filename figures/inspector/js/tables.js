/** What is shown, as tables: maps, curves over time, predictions. */

/** A value for a table: with the digits that a float32 carries; empty where there is none. */
function cell(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "";
  return typeof value === "number" ? `${Number.isInteger(value) ? value : Number(value.toPrecision(9))}` : `${value}`;
}

/** Rows as CSV, as RFC 4180 has it. @param {(string|number)[][]} rows */
export function csv(rows) {
  const quoted = (words) => (/[",\r\n]/.test(words) ? `"${words.replace(/"/g, '""')}"` : words);
  return rows.map((row) => row.map((value) => quoted(cell(value))).join(",")).join("\r\n") + "\r\n";
}

/** A row a pair of frames of the span, a column a map that is shown. @param {Inspector} inspector */
export function mapTable(inspector) {
  const { scene, state } = inspector, [first, last] = state.span;
  const maps = [inspector.left, inspector.first, inspector.second, inspector.third].filter((panel) => panel.width)
    .flatMap((panel) => panel.source(state).maps).filter((map) => map.here);
  const columns = maps.map((map) => ({ ...map, name: columnOfMap(map, state), values: map.values, mask: map.mask }));
  const rows = [["query frame", "query (s)", "key frame", "key (s)", ...columns.map(({ name }) => name)]];
  for (let query = first; query < last; query++) {
    for (let key = first; key < last; key++) {
      const at = query * scene.frames + key;
      rows.push([query, scene.seconds[query], key, scene.seconds[key], ...columns.map(({ values, mask }) => (mask && !mask[at] ? NaN : values[at]))]);
    }
  }
  return rows;
}

function columnOfMap({ title, head, unit }, { modality }) {
  const named = title.startsWith(modality) ? title : `${modality} · ${title}`;
  return `${named}${head === undefined ? "" : ` · head ${head}`} (${unit})`;
}

/** A row a frame of the span, a column a line. */
export function lineTable({ scene, state, lanes }) {
  const [first, last] = state.span, columns = [];
  for (const lane of lanes.curves(state)) {
    for (const { label, model, values, before } of lane.series) {
      const name = (more) => `${scene.models[scene.shown(state)[model]].label} · ${lane.name} · ${label}${more} (${lane.units || "no unit"})`;
      if (before) columns.push({ name: name(" · without edits"), values: before });
      columns.push({ name: name(before ? " · edited" : ""), values });
    }
  }
  const frames = Array.from({ length: last - first }, (_, place) => first + place);
  return [["frame", "time (s)", ...columns.map(({ name }) => name)],
    ...frames.map((frame) => [frame, scene.seconds[frame], ...columns.map(({ values }) => values[frame])])];
}

/** A row a class, the likeliest first; a column a model that is shown, two where its pass is edited. */
export function predictionTable({ scene, state }) {
  const shown = scene.shown(state), columns = shown.flatMap((index) => {
    const { scores, before } = scene.scores(index), { classes, label } = scene.models[index];
    const column = (more, values) => ({ name: `${label}${more} (probability)`, of: new Map(classes.map((each, at) => [each, values?.[at] ?? NaN])) });
    return before ? [column(" without edits", before), column(" edited", scores)] : [column("", scores)];
  });
  const rows = scene.clip.classes.map(({ label, name, true: there }) => [label, name, there ? 1 : 0, ...columns.map(({ of }) => of.get(label) ?? NaN)]);
  const score = (row) => (Number.isNaN(row[3]) ? -1 : row[3]);
  return [["class", "name", "label of the clip (1 = yes)", ...columns.map(({ name }) => name)], ...rows.sort((one, other) => score(other) - score(one))];
}
