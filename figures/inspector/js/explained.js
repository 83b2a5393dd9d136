/** Explanations of classes that the record does not explain: an engine of the kernel makes them when they are asked for. */

const USUAL = "relevance-propagation"; // the method of records that have no explanations, by which evidence is found best

export class ExplainedClasses {
  /** @param {Inspector} inspector */
  constructor(inspector) { Object.assign(this, { inspector, made: new Map(), waiting: "", problem: "" }); }

  method(state) { return state.explanation || USUAL; }

  key(model, state) { return JSON.stringify([model, state.class_, this.method(state)]); }

  /** Models that are shown and whose engine explains the class that is chosen, which is not explained yet. @returns {object[]} */
  open(state) {
    const { scene, whatIf } = this.inspector, name = scene.classes.get(state.class_)?.name;
    return scene.shown(state).map((index) => scene.models[index])
      .filter((model) => whatIf?.engines.get(model.name)?.explain && model.classes.includes(state.class_) && model.explained !== name);
  }

  /** Ask the engines, one after another, and show what they answer. */
  async ask(state) {
    const { inspector } = this;
    Object.assign(this, { waiting: inspector.scene.classes.get(state.class_).name, problem: "" });
    inspector.controls.update(inspector.state);
    try {
      for (const { name } of this.open(state)) {
        this.made.set(this.key(name, state), await inspector.whatIf.engines.get(name).explain(state.class_, [this.method(state)]));
      }
    } catch (error) { this.problem = error.message; }
    this.waiting = "";
    inspector.panels.forEach((panel) => { panel.drawn = ""; });
    Object.assign(inspector, { shape: "", controlled: "" });
    inspector.schedule();
  }

  /** Let each model say what is explained now: of the chosen class what was answered, else what the record has. */
  follow(state) {
    if (!this.made.size) return;
    const { scene } = this.inspector;
    scene.explained.clear();
    for (const model of scene.models) {
      model.recorded ??= { explained: model.explained, explanations: model.explanations, lanes: model.lanes };
      const { recorded } = model, answer = this.made.get(this.key(model.name, state));
      Object.assign(model, recorded);
      if (!answer) continue;
      const { header: { explained, explanations, lanes }, variables } = answer;
      model.explained = explained;
      if (state.explanation) model.explanations = { ...recorded.explanations, ...explanations };
      else model.lanes = [...recorded.lanes.filter((lane) => lanes.every(({ variable }) => variable !== lane.variable)), ...lanes];
      Object.entries(variables).forEach(([name, values]) => scene.explained.set(name, values));
    }
  }
}
