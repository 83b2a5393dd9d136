/** The engine of a page without a kernel: the model's pass, each stream in a thread of its own. What it answers: docs/inspector_payload.md. */

/** A thread of the page: takes messages, and answers each. */
class Thread {
  /** @param {string} module text of the modules in `live/` */
  constructor(module) {
    const address = URL.createObjectURL(new Blob([module], { type: "text/javascript" }));
    Object.assign(this, { worker: new Worker(address), questions: new Map(), asked: 0 });
    URL.revokeObjectURL(address);
    this.worker.onmessage = ({ data: { number, reply, error } }) => {
      const { resolve, reject } = this.questions.get(number);
      this.questions.delete(number);
      if (error) reject(new Error(error));
      else resolve(reply);
    };
    this.worker.onerror = (event) => this.fail(new Error(`the page's engine: ${event.message || "its thread did not start"}`));
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

export class PageEngine {
  /**
   * @param {string} module text of the modules in `live/` @param {ArrayBuffer} buffer what `live.py` wrote
   */
  constructor(module, buffer) {
    const length = new DataView(buffer).getUint32(0, true);
    const { model, sha256, modalities, indices } = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    this.threads = modalities.map(() => new Thread(module));
    this.ready = this.ask((place) => {
      const own = place < modalities.length - 1 ? buffer.slice(0) : buffer;
      return [{ buffer: own, stream: modalities[place] }, [own]];
    }).then(([first]) => first);
    Object.assign(this, { model, sha256, layers: indices.filter((index) => index !== null) });
    this.ready.catch(() => {}); // whoever asks is told
  }

  /**
   * What a pass with edits comes to.
   * @param {string[]} edits texts, made together; none: the pass as it is @param {?string[]} shown names of the maps that are wanted; null: all
   * @returns {Promise<{logits: Float32Array, probabilities: Float32Array, variables: Object<string, Float32Array|Uint8Array>}>}
   */
  async answer(edits, shown = null) {
    await this.ready;
    const parts = await this.ask(() => [{ edits, shown }]), logits = parts[0].logits.slice();
    for (const part of parts.slice(1)) part.logits.forEach((logit, at) => { logits[at] += logit; });
    const probabilities = logits.map((logit) => 1 / (1 + Math.exp(-logit)));
    const scores = Object.fromEntries(this.layers.map((index) => [`${index}/score`, probabilities]));
    return { logits, probabilities, variables: Object.assign(scores, ...parts.map(({ variables }) => variables)) };
  }

  /** Why each edit cannot be made with those before it that can; empty texts where it can. @param {string[]} edits @returns {Promise<string[]>} */
  async refusals(edits) {
    await this.ready;
    return this.threads[0].ask({ checked: edits });
  }

  /** Replies of all threads, in the order of the streams; of errors the first one's. @param {(place: number) => any[]} messageOf */
  async ask(messageOf) {
    const replies = await Promise.allSettled(this.threads.map((thread, place) => thread.ask(...messageOf(place))));
    const failed = replies.find(({ status }) => status === "rejected");
    if (failed) throw failed.reason;
    return replies.map(({ value }) => value);
  }

  close() { this.threads.forEach((thread) => thread.close()); }
}
