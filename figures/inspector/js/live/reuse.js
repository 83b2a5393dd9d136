/** What was computed of the same inputs before is not computed again: what an edit does not reach stays as it is. */

const KEPT = 3; // results of one step, the first of which stays: that of the pass without edits

export class Reuse {
  constructor() { this.steps = new Map(); }

  /**
   * The result of a step, computed unless one of the last was of the same inputs.
   * @param {string} step its name @param {any[]} inputs all that it depends on; alike means the very same array, number or text
   * @param {() => any} make
   */
  get(step, inputs, make) {
    let results = this.steps.get(step);
    if (!results) this.steps.set(step, results = []);
    const alike = results.find((each) => each.inputs.length === inputs.length && each.inputs.every((input, at) => input === inputs[at]));
    if (alike) return alike.value;
    const value = make();
    if (results.length === KEPT) results.splice(1, 1);
    results.push({ inputs, value });
    return value;
  }
}
