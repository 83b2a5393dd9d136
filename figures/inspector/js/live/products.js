/** Products of matrices, row by row in one array each: by the vector instructions of WebAssembly, or plainly. */

import { assembled } from "./assembler.js";

// A tile of the result is made at a time, of as many rows and columns.
const ROWS = 4, COLUMNS = 8;
const TILE = [0, 1, 2, 3];

const step = (name, by) => `local.get ${name}; ${by}; i32.add; local.set ${name};`;
const plainAdd = (name, sum, factors) => `local.get ${sum}; local.get ${name}; local.get ${factors}; f32x4.mul; f32x4.add; local.set ${sum};`;
const fusedAdd = (name, sum, factors) => `local.get ${name}; local.get ${factors}; local.get ${sum}; f32x4.relaxed_madd; local.set ${sum};`;
// Panel by panel of COLUMNS columns of b, which lie one row after another; of each the tiles of ROWS rows of a. The last panel is
// the first: what it writes beyond a row's end, 0, is the next row's start, which a later panel or row writes over.
const tilesBy = (add) => `
  loop;
    local.get a; local.set row; local.get c; local.set to; i32.const 0; local.set i;
    loop;
      ${TILE.map((r) => `f32.const 0; f32x4.splat; local.tee left${r}; local.set right${r};`).join("")}
      local.get row; local.set a0; ${[1, 2, 3].map((r) => `local.get a${r - 1}; local.get strideA; i32.add; local.set a${r};`).join("")}
      local.get b; local.set from; local.get b; local.get inner; i32.const 32; i32.mul; i32.add; local.set last;
      loop;
        local.get from; v128.load 0; local.set b0; local.get from; v128.load 16; local.set b1;
        ${TILE.map((r) => `local.get a${r}; v128.load32_splat 0; local.set x; ${add("x", `left${r}`, "b0")} ${add("x", `right${r}`, "b1")}
          ${step(`a${r}`, "i32.const 4")}`).join("")}
        ${step("from", "i32.const 32")} local.get from; local.get last; i32.lt_u; br_if 0;
      end;
      ${TILE.map((r) => `local.get to; local.get left${r}; v128.store 0; local.get to; local.get right${r}; v128.store 16;
        ${step("to", "local.get strideC")}`).join("")}
      ${step("row", "local.get strideA; i32.const 4; i32.mul")}
      ${step("i", "i32.const 4")} local.get i; local.get rows; i32.lt_u; br_if 0;
    end;
    ${step("b", "i32.const 0; local.get strideB; i32.sub")} ${step("c", "i32.const -32")}
    ${step("panel", "i32.const 1")} local.get panel; local.get panels; i32.lt_u; br_if 0;
  end;`;

const up = (value, to) => Math.ceil(value / to) * to;

/** What both forms share: which keys of a row are not 0 need not be known, only the first and the last. */
class Products {
  /**
   * a b, or a b^T.
   * @param {Float32Array} a shape (rows, inner) @param {Float32Array} b shape (inner, columns), or transposed
   * @returns {Float32Array} shape (rows, columns)
   */
  multiply(a, b, rows, inner, columns, transposed = false) {
    return this.tiles(a, transposed ? transpose(b, columns, inner) : b, [[0, rows, 0, inner]], rows, inner, columns);
  }

  /** The same where the rows of a are 0 but in a band: in runs of rows only what is not 0 is multiplied. */
  multiplyBanded(a, b, rows, inner, columns) {
    return this.tiles(a, b, bands(a, rows, inner), rows, inner, columns);
  }
}

/** By the vector instructions. */
export class VectorProducts extends Products {
  /** Instructions that there are here; with products and sums in one, where there are those. @returns {?Uint8Array} */
  static code() {
    return typeof WebAssembly === "object" ? [fusedAdd, plainAdd].map(VectorProducts.codeBy).find((code) => WebAssembly.validate(code)) ?? null : null;
  }

  static codeBy(add) {
    return assembled(["a", "b", "c", "rows", "inner", "panels", "strideA", "strideB", "strideC"],
      ["i", "panel", "row", "to", "from", "last", ...TILE.map((r) => `a${r}`)],
      ["b0", "b1", "x", ...TILE.flatMap((r) => [`left${r}`, `right${r}`])], tilesBy(add));
  }

  /** @param {Uint8Array} code of `code` */
  constructor(code) {
    super();
    this.packed = new WeakMap();
    this.memory = new WebAssembly.Memory({ initial: 64 });
    this.run = new WebAssembly.Instance(new WebAssembly.Module(code), { env: { memory: this.memory } }).exports.run;
  }

  tiles(a, b, runs, rows, inner, columns) {
    const height = up(rows, ROWS), width = up(columns, COLUMNS), last = width - COLUMNS, ofB = height * inner, ofC = ofB + inner * width;
    const floats = this.room(ofC + height * columns + COLUMNS);
    floats.set(a);
    floats.fill(0, rows * inner, ofB);
    floats.set(this.panels(b, inner, columns), ofB);
    if (runs.length > 1 || runs.some(([, , from, to]) => from >= to)) floats.fill(0, ofC, ofC + rows * columns);
    for (const [first, stop, from, to] of runs) {
      if (from < to) this.run(4 * (first * inner + from), 4 * (ofB + inner * last + from * COLUMNS), 4 * (ofC + first * columns + last),
        up(stop - first, ROWS), to - from, width / COLUMNS, 4 * inner, 4 * inner * COLUMNS, 4 * columns);
    }
    return floats.slice(ofC, ofC + rows * columns);
  }

  /** b as the instructions take it; kept, as weights are multiplied by again and again. */
  panels(b, inner, columns) {
    if (!this.packed.has(b)) this.packed.set(b, intoPanels(b, inner, columns));
    return this.packed.get(b);
  }

  /** The memory, of at least so many floats. */
  room(count) {
    const lacking = 4 * count - this.memory.buffer.byteLength;
    if (lacking > 0) this.memory.grow(Math.ceil(lacking / 65536));
    return new Float32Array(this.memory.buffer);
  }
}

/** In plain JavaScript; the same sums in double precision. */
export class PlainProducts extends Products {
  tiles(a, b, runs, rows, inner, columns) {
    const result = new Float32Array(rows * columns), sums = new Float64Array(columns);
    for (const [first, stop, from, to] of runs) {
      for (let row = first; row < Math.min(stop, rows); row++) {
        sums.fill(0);
        for (let at = from; at < to; at++) {
          const factor = a[row * inner + at], start = at * columns;
          for (let column = 0; column < columns; column++) sums[column] += factor * b[start + column];
        }
        result.set(sums, row * columns);
      }
    }
    return result;
  }
}

/** b as COLUMNS columns after another, each row by row; the last are filled up with 0. */
function intoPanels(b, inner, columns) {
  const panels = new Float32Array(inner * up(columns, COLUMNS));
  for (let left = 0; left < columns; left += COLUMNS) {
    const width = Math.min(COLUMNS, columns - left);
    for (let row = 0, to = left * inner, from = left; row < inner; row++, to += COLUMNS, from += columns) {
      for (let column = 0; column < width; column++) panels[to + column] = b[from + column];
    }
  }
  return panels;
}

/** Runs of ROWS rows: [first, after the last, first column that is not 0 in some of them, after the last]. */
function bands(a, rows, inner) {
  const runs = [];
  for (let first = 0; first < rows; first += ROWS) {
    const stop = Math.min(rows, first + ROWS);
    let from = inner, to = 0;
    for (let row = first; row < stop; row++) {
      const start = row * inner;
      let column = 0;
      while (column < from && a[start + column] === 0) column++;
      from = column;
      for (column = inner; column > to && a[start + column - 1] === 0;) column--;
      to = column;
    }
    runs.push([first, stop, from, to]);
  }
  return runs;
}

/** @param {Float32Array} matrix shape (rows, columns) @returns {Float32Array} shape (columns, rows) */
export function transpose(matrix, rows, columns) {
  const result = new Float32Array(matrix.length);
  for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) result[column * rows + row] = matrix[row * columns + column];
  return result;
}
