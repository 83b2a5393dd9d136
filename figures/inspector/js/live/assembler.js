/** WebAssembly from instructions written as words: a module of one function, over a memory that it is given. */

const OPCODES = {
  loop: [0x03, 0x40], end: [0x0b], br_if: [0x0d], "local.get": [0x20], "local.set": [0x21], "local.tee": [0x22],
  "i32.const": [0x41], "i32.lt_u": [0x49], "i32.add": [0x6a], "i32.sub": [0x6b], "i32.mul": [0x6c],
  "v128.load": [0xfd, 0x00], "v128.load32_splat": [0xfd, 0x09], "v128.store": [0xfd, 0x0b], "f32x4.splat": [0xfd, 0x13],
  "f32.const": [0x43], "f32x4.add": [0xfd, 0xe4, 0x01], "f32x4.mul": [0xfd, 0xe6, 0x01],
  "f32x4.relaxed_madd": [0xfd, 0x85, 0x02],
};
const I32 = 0x7f, V128 = 0x7b;

/** A number of at least 0 as LEB128. */
function unsigned(value) {
  return value < 128 ? [value] : [(value & 127) | 128, ...unsigned(value >>> 7)];
}

/** The same with a sign. */
function signed(value) {
  return value >= -64 && value < 64 ? [value & 127] : [(value & 127) | 128, ...signed(value >> 7)];
}

const sized = (bytes) => [...unsigned(bytes.length), ...bytes];
const listed = (entries) => [...unsigned(entries.length), ...entries.flat()];
const letters = (text) => sized([...new TextEncoder().encode(text)]);

/** One instruction with what follows it: the name of a local, a number, the offset of an address. */
function encoded(instruction, names) {
  const [word, operand] = instruction.split(" "), opcode = OPCODES[word];
  if (word.startsWith("local.")) return [...opcode, ...unsigned(names.indexOf(operand))];
  if (word === "i32.const") return [...opcode, ...signed(Number(operand))];
  if (word === "f32.const") return [...opcode, ...new Uint8Array(new Float32Array([Number(operand)]).buffer)];
  if (word === "br_if") return [...opcode, ...unsigned(Number(operand))];
  if (word.includes("load") || word.includes("store")) return [...opcode, 2, ...unsigned(Number(operand ?? 0))];
  return opcode;
}

/**
 * A module that imports `env.memory` and exports `run`.
 * @param {string[]} parameters names of whole numbers @param {string[]} whole names of more of them
 * @param {string[]} vectors names of four floats each @param {string} text instructions, one after another, with ; between them
 * @returns {Uint8Array}
 */
export function assembled(parameters, whole, vectors, text) {
  const names = [...parameters, ...whole, ...vectors];
  const code = text.split(";").map((each) => each.trim()).filter(Boolean).flatMap((each) => encoded(each, names));
  const locals = listed([[...unsigned(whole.length), I32], [...unsigned(vectors.length), V128]]);
  const sections = [
    [1, listed([[0x60, ...listed(parameters.map(() => [I32])), 0]])],
    [2, listed([[...letters("env"), ...letters("memory"), 2, 0, 1]])],
    [3, listed([[0]])],
    [7, listed([[...letters("run"), 0, 0]])],
    [10, listed([sized([...locals, ...code, ...OPCODES.end])])],
  ];
  return new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...sections.flatMap(([id, bytes]) => [id, ...sized(bytes)])]);
}
