/**
 * A part of the view: its two canvases, and what the pointer does there. The picture is drawn again only when its key
 * changes; cursor and pointer are on the overlay.
 */

import { create } from "./drawing.js";

/** A part of the view: a picture below, an overlay above, and where the pointer is in it. */
export class Panel {
  constructor(inspector, name, role) {
    Object.assign(this, { inspector, scene: inspector.scene, name, width: 0, height: 0, drawn: "" });
    this.base = document.createElement("canvas");
    this.overlay = document.createElement("canvas");
    this.overlay.className = "overlay";
    this.base.setAttribute("role", "img");
    this.base.setAttribute("aria-label", role);
    this.overlay.setAttribute("aria-hidden", "true");
    this.element = create("div", { class: `panel ${name}` }, this.base, this.overlay);
    this.listen();
  }

  resize(width, height, ratio) {
    if (this.width === width && this.height === height && this.ratio === ratio) return;
    Object.assign(this, { width, height, ratio, drawn: "" });
    for (const canvas of [this.base, this.overlay]) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
    }
    Object.assign(this.element.style, { width: `${width}px`, height: `${height}px` });
  }

  /** Draw what changed; a canvas that is touched is copied to the screen whole, which costs more than drawing. */
  paint(state, theme) {
    const key = `${theme}|${this.key(state)}`, above = this.overlayKey(state);
    if (key === this.drawn && above === this.drawnAbove) return;
    if (key !== this.drawn) this.draw(this.cleared(this.base), state, theme);
    if (above) this.drawOverlay(this.cleared(this.overlay), state, theme);
    Object.assign(this, { drawn: key, drawnAbove: above });
  }

  /** What the overlay depends on, beside the picture. */
  overlayKey({ frame, pinned, hover, selection }) {
    return [frame, pinned, hover?.query, hover?.key, this.brush, JSON.stringify(selection)].join("|");
  }

  cleared(canvas) {
    const context = canvas.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    return context;
  }

  listen() {
    const at = (event) => {
      const box = this.overlay.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    let pressed = null;
    this.overlay.addEventListener("pointermove", (event) => {
      const [x, y] = at(event);
      this.inspector.tip.follow(event);
      const place = this.locate(x, y), moved = pressed && (Math.abs(x - pressed.x) > 4 || Math.abs(y - pressed.y) > 4);
      const selects = pressed?.selects && this.selected;
      if (moved && selects) pressed.selection = this.selected(pressed, { x, y });
      this.brush = moved && this.span && !selects && Math.abs(x - pressed.x) > 4 ? [pressed.x, x] : null;
      this.inspector.set({ hover: place, ...pressed?.selection && { selection: pressed.selection } });
    });
    this.overlay.addEventListener("pointerleave", () => { this.inspector.set({ hover: null }); });
    this.overlay.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      const [x, y] = at(event);
      pressed = { x, y, selection: null, selects: this.inspector.whatIf?.selects(event) };
      this.overlay.setPointerCapture(event.pointerId);
      this.inspector.root.focus({ preventScroll: true });
    });
    this.overlay.addEventListener("pointerup", (event) => {
      if (!pressed) return;
      const [x, y] = at(event);
      const brush = this.brush, { selection } = pressed;
      pressed = this.brush = null;
      if (selection) this.inspector.set({ selection });
      else if (brush && this.span) this.inspector.set({ span: this.span(...brush) });
      else this.click(x, y);
    });
    this.overlay.addEventListener("dblclick", () => { this.inspector.set({ span: [0, this.scene.frames], pinned: false }); });
  }

  /** Pin the frame under the pointer, or let go of it. */
  click(x, y) {
    const place = this.locate(x, y);
    const frame = place?.query ?? place?.key;
    if (frame === undefined || frame === null) return;
    const { pinned, frame: current } = this.inspector.state;
    this.inspector.set({ frame, pinned: !(pinned && frame === current) });
  }

  drawBrush(context, box, colours) {
    if (!this.brush) return;
    const [from, to] = [Math.min(...this.brush), Math.max(...this.brush)]
      .map((x) => Math.min(Math.max(x, box.x), box.x + box.width));
    context.globalAlpha = 0.22;
    context.fillStyle = colours.accent;
    context.fillRect(from, box.y, to - from, box.height);
    context.globalAlpha = 1;
  }
}

/** Frames between two places along a box, at least two; in either order. */
export function spanBetween(from, to, box, span) {
  const frame = (x) => span[0] + ((Math.min(Math.max(x, box.x), box.x + box.width) - box.x) / box.width) * (span[1] - span[0]);
  const first = Math.floor(frame(Math.min(from, to))), last = Math.ceil(frame(Math.max(from, to)));
  return [Math.max(span[0], Math.min(first, span[1] - 2)), Math.min(span[1], Math.max(last, first + 2))];
}
