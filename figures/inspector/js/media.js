/** The pictures of a clip: thumbnails on one sheet, and the copy of its video. */

import { create } from "./drawing.js";

const SEEK_SECONDS = 0.002; // after a frame's own time that a player is sent to: times of the copy are rounded to 0.001

/** Pictures of frames, and the second that the copy of the video is at. */
export class Media {
  /** @param {Scene} scene @param {() => void} changed called when there is more to draw */
  constructor(scene, changed) {
    const { thumbnails = null, proxy = null } = scene.clip;
    Object.assign(this, { scene, changed, about: thumbnails, proxy, sheet: null, video: null, failed: "", presented: 0 });
    const bytes = scene.payload.array("thumbnails");
    if (bytes) createImageBitmap(new Blob([bytes], { type: thumbnails.type })).then((image) => {
      this.sheet = image;
      this.presented++;
      changed();
    });
    this.open();
  }

  /** Take the copy of the video, once it is here. */
  open() {
    const bytes = this.proxy && !this.video ? this.scene.payload.array("proxy") : null;
    if (!bytes) return;
    if (!("requestVideoFrameCallback" in HTMLVideoElement.prototype)) {
      this.failed = "this browser does not say which picture it plays";
      return;
    }
    this.address = URL.createObjectURL(new Blob([bytes], { type: this.proxy.type }));
    this.video = create("video", { src: this.address, preload: "auto", playsinline: true, error: () => {
      this.failed = `this browser does not play ${this.proxy.type}`;
      this.video = null;
      this.changed();
    } });
  }

  close() {
    if (!this.address) return;
    this.video?.pause();
    this.video?.removeAttribute("src");
    URL.revokeObjectURL(this.address);
    this.sheet?.close();
  }

  /** Width of a picture by its height. */
  get aspect() { return (this.proxy ?? this.about).width / (this.proxy ?? this.about).height; }

  /** Second of the copy at which a frame begins. */
  second(frame) { return Math.max(0, this.scene.seconds[frame] - this.proxy.first) + SEEK_SECONDS; }

  /** The frame whose picture the copy shows at a second: the last one that has begun. */
  frameAt(second) {
    const { seconds, frames } = this.scene, at = second + this.proxy.first + SEEK_SECONDS;
    let low = 0, high = frames - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (seconds[middle] <= at) low = middle; else high = middle - 1;
    }
    return low;
  }

  /** A frame's thumbnail into a box; the middle of it where the box is narrower. */
  drawThumbnail(context, frame, x, y, width, height) {
    if (!this.sheet) return;
    const { columns, width: across, height: down } = this.about;
    const share = Math.min(1, (width * down) / (height * across));
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.sheet, ((frame % columns) + (1 - share) / 2) * across, Math.floor(frame / columns) * down,
      share * across, down, x, y, width, height);
  }
}
