/** The engine of a page without a kernel: the model's pass in a thread of its own. What it answers: docs/inspector_payload.md. */

export class PageEngine {
  /**
   * @param {string} module text of the modules in `live/` @param {ArrayBuffer} buffer what `live.py` wrote
   */
  constructor(module, buffer) {
    const address = URL.createObjectURL(new Blob([module], { type: "text/javascript" }));
    this.worker = new Worker(address);
    URL.revokeObjectURL(address);
    this.questions = new Map();
    this.asked = 0;
    this.worker.onmessage = ({ data: { number, reply, error } }) => {
      const { resolve, reject } = this.questions.get(number);
      this.questions.delete(number);
      if (error) reject(new Error(error));
      else resolve(reply);
    };
    this.worker.onerror = (event) => this.fail(new Error(`the page's engine: ${event.message || "its thread did not start"}`));
    const length = new DataView(buffer).getUint32(0, true);
    const { model, sha256 } = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    Object.assign(this, { model, sha256, ready: this.ask({ buffer }, [buffer]) });
    this.ready.catch(() => {}); // whoever asks is told
  }

  /**
   * What a pass with edits comes to.
   * @param {string[]} edits texts, made together; none: the pass as it is @param {?string[]} shown names of the maps that are wanted; null: all
   * @returns {Promise<{logits: Float32Array, probabilities: Float32Array, variables: Object<string, Float32Array|Uint8Array>}>}
   */
  async answer(edits, shown = null) {
    await this.ready;
    return this.ask({ edits, shown });
  }

  ask(message, moved = []) {
    const number = this.asked++;
    return new Promise((resolve, reject) => {
      this.questions.set(number, { resolve, reject });
      this.worker.postMessage({ number, ...message }, moved);
    });
  }

  fail(error) {
    this.questions.forEach(({ reject }) => reject(error));
    this.questions.clear();
  }

  close() {
    this.worker.terminate();
    this.fail(new Error("the page's engine was closed"));
  }
}
