/** What `payload.py` wrote, as named arrays that are decoded when they are first asked for. */

let halves = null;

/** Values of all 65,536 half floats. @returns {Float32Array} shape (65536) */
function halfTable() {
  if (halves) return halves;
  halves = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const exponent = (bits >> 10) & 31, fraction = bits & 1023;
    const size = exponent === 0 ? fraction * 2 ** -24
      : exponent === 31 ? (fraction ? NaN : Infinity) : (1 + fraction / 1024) * 2 ** (exponent - 15);
    halves[bits] = bits & 32768 ? -size : size;
  }
  return halves;
}

/** Least recently used values go when their total weight exceeds the capacity. */
export class Recent {
  constructor(capacity) { this.capacity = capacity; this.total = 0; this.held = new Map(); }

  /** @param {string} key @param {() => {value: any, weight: number}} make */
  get(key, make) {
    let entry = this.held.get(key);
    if (entry) this.held.delete(key);
    else { entry = make(); this.total += entry.weight; }
    this.held.set(key, entry);
    for (const [oldest, { weight }] of this.held) {
      if (this.total <= this.capacity || this.held.size === 1) break;
      this.held.delete(oldest);
      this.total -= weight;
    }
    return entry.value;
  }
}

/** Bytes of `payload.py` as named arrays, decoded when first asked for. The maps beyond the first view may come later. */
export class Payload {
  /** @param {ArrayBuffer} buffer the whole, or its first part @param {?ArrayBuffer} rest the second part */
  constructor(buffer, rest = null) {
    const length = new DataView(buffer).getUint32(0, true);
    this.buffer = buffer;
    this.rest = rest;
    this.start = 4 + length;
    this.header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    this.decoded = new Recent(48e6); // numbers
  }

  has(name) { return name in this.header.arrays; }

  /** Whether an array that there is has come. */
  here(name) {
    const about = this.about(name);
    if (about?.type === "engine") return false; // the page's engine has it
    return !about || Boolean(this.rest) || this.start + about.offset + about.bytes <= this.buffer.byteLength;
  }

  /** @param {string} name @returns {?{type, shape, offset, bytes, exponent, support}} */
  about(name) {
    const about = this.header.arrays[name];
    return about?.same ? this.header.arrays[about.same] : about ?? null;
  }

  /** @param {string} name @returns {?(Float32Array|Float64Array|Uint8Array)} flat, in the order of the array's shape; null until it is here */
  array(name) {
    const about = this.about(name);
    if (!about || !this.here(name)) return null;
    return this.decoded.get(`${about.offset}`, () => {
      const stored = this.stored(about);
      const value = about.support ? spread(stored, this.array(about.support)) : stored;
      if (about.symmetric) mirror(value, about.shape[0]);
      return { value, weight: value.length };
    });
  }

  stored({ type, offset, bytes, exponent, steps }) {
    const later = this.start + offset + bytes > this.buffer.byteLength;
    const buffer = later ? this.rest : this.buffer, place = later ? offset - this.header.first : this.start + offset;
    if (type === "uint8") return new Uint8Array(buffer, place, bytes);
    if (type === "float32") return new Float32Array(buffer, place, bytes / 4);
    if (type === "float64") return new Float64Array(buffer, place, bytes / 8);
    const count = bytes / 2, low = new Uint8Array(buffer, place, count), high = new Uint8Array(buffer, place + count, count);
    if (type === "int16") return timesSteps(low, high, this.array(steps));
    const table = halfTable(), factor = 2 ** -exponent;
    const values = new Float32Array(count);
    for (let index = 0; index < count; index++) values[index] = table[low[index] | (high[index] << 8)] * factor;
    return values;
  }
}

/** Whole numbers of 16 bits, of each row times its step. */
function timesSteps(low, high, steps) {
  const width = low.length / steps.length;
  return Float32Array.from(low, (byte, at) => ((byte | (high[at] << 8)) << 16 >> 16) * steps[Math.floor(at / width)]);
}

/** Values back into their places: one for each entry of the mask that is not 0. */
function spread(values, mask) {
  const full = new Float32Array(mask.length);
  for (let index = 0, next = 0; index < mask.length; index++) if (mask[index]) full[index] = values[next++];
  return full;
}

/** Fill what lies above the diagonal from below it, in place. @param {Float32Array} values shape (size, size) */
function mirror(values, size) {
  for (let row = 0; row < size; row++) {
    for (let column = row + 1; column < size; column++) values[row * size + column] = values[column * size + row];
  }
}
