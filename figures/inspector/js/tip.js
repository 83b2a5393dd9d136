/** What is read out, beside the pointer. */

import { create } from "./drawing.js";

const ROOM = { x: 320, y: 110 }; // pixels that it is given beside the pointer; it stands on the other side where these lack

/** A box beside the pointer with the words of the readout, a line a part; where the pointer is in a lane, with its values. */
export class Tip {
  /** @param {Inspector} inspector */
  constructor(inspector) {
    this.inspector = inspector;
    this.element = create("div", { class: "tip", "aria-hidden": "true" }); // the readout says the same to a screen reader
    this.element.hidden = true;
  }

  /** Go where the pointer is. @param {PointerEvent} event */
  follow(event) {
    const box = this.inspector.root.getBoundingClientRect(), { style } = this.element;
    const left = event.clientX + ROOM.x > Math.max(box.right, ROOM.x + 40), above = event.clientY + ROOM.y > window.innerHeight;
    const x = event.clientX - box.left, y = event.clientY - box.top;
    style.left = left ? "auto" : `${x + 14}px`;
    style.right = left ? `${box.width - x + 14}px` : "auto";
    style.top = above ? "auto" : `${y + 16}px`;
    style.bottom = above ? `${box.height - y + 12}px` : "auto";
  }

  /** @param {State} state */
  update({ hover }) {
    this.element.hidden = !hover;
    if (!hover) return;
    const { inspector } = this, lane = hover.panel === "lanes" ? inspector.lanes.valuesAt(hover.y, hover.key) : "";
    const words = [...inspector.readout().split(" · "), lane].filter(Boolean).join("\n");
    if (this.element.textContent !== words) this.element.textContent = words;
  }
}
