/** Playing: the cursor follows the copy of the video, or a clock where there is none. */

import { create } from "./drawing.js";

const FRAMES_A_SECOND = 10; // of clips without a copy of their video, at their plain speed
const SPEEDS = [0.5, 1, 2, 4];

/**
 * While the copy of the video plays, its pictures move the cursor; else the cursor moves the copy. So the picture that is
 * on the screen is the one of the cursor's frame.
 */
export class Playback {
  constructor(inspector) {
    Object.assign(this, { inspector, media: inspector.media, timer: 0, at: -1, watched: null });
    this.element = this.makeControls();
  }

  /** Speed, of the video or in frames, and sound. */
  makeControls() {
    const element = create("span", { class: "playback" }), proxy = this.media?.proxy;
    this.speed = create("select", { "aria-label": "Speed", change: () => this.setUp() },
      ...SPEEDS.map((speed) => create("option", { value: speed, selected: speed === 1 }, proxy ? `${speed} ×` : `${speed * FRAMES_A_SECOND} frames/s`)));
    element.append(this.speed);
    if (!proxy) return element;
    this.sound = create("button", { type: "button", "aria-pressed": "true", title: "Sound on or off", click: () => {
      this.sound.setAttribute("aria-pressed", String(this.sound.getAttribute("aria-pressed") !== "true"));
      this.setUp();
    } }, "sound");
    this.sound.hidden = !this.media.proxy.sound;
    element.append(this.sound);
    return element;
  }

  /** The copy of the video, once it is here. */
  get video() {
    const video = this.media?.video ?? null;
    if (video && video !== this.watched) this.watch(video);
    return video;
  }

  watch(video) {
    this.watched = video;
    this.setUp();
    video.addEventListener("seeked", () => { this.follow(this.inspector.state); this.inspector.schedule(); });
    video.addEventListener("ended", () => this.rewind());
    const presented = (_, { mediaTime }) => {
      video.requestVideoFrameCallback(presented);
      this.shown = mediaTime;
      this.media.presented++;
      if (this.inspector.state.playing && !video.seeking) this.advance(mediaTime);
      this.inspector.schedule();
    };
    video.requestVideoFrameCallback(presented);
  }

  setUp() {
    if (this.timer) this.startClock();
    if (!this.watched) return;
    this.watched.playbackRate = Number(this.speed.value);
    this.watched.muted = this.sound.getAttribute("aria-pressed") !== "true";
  }

  /** The cursor to the frame of a picture that has come on the screen. */
  advance(second) {
    const { state } = this.inspector, frame = this.media.frameAt(second);
    if (frame >= state.span[1] || frame < state.span[0]) { this.rewind(); return; }
    this.at = frame;
    if (frame !== state.frame) this.inspector.set({ frame });
  }

  /** To the first frame that is shown. */
  rewind() {
    const { state } = this.inspector;
    this.inspector.set({ frame: state.span[0] });
    this.at = -1;
    this.follow(this.inspector.state);
    if (state.playing) this.start();
  }

  /** Send the copy of the video to the cursor's frame, unless the copy has moved the cursor there. */
  follow(state) {
    const { video } = this;
    if (!video || video.seeking || state.frame === this.at) return;
    this.at = state.frame;
    video.currentTime = this.media.second(state.frame);
  }

  /** Whether the picture of the copy is that of the cursor's frame. */
  isAt(state) { return Boolean(this.video && this.shown !== undefined && !this.video.seeking && this.at === state.frame); }

  play() {
    const { inspector } = this;
    if (inspector.state.playing) { this.stop(); return; }
    inspector.set({ playing: true });
    if (this.video) { this.start(); return; }
    this.startClock();
  }

  startClock() {
    const { inspector } = this;
    clearInterval(this.timer);
    this.timer = setInterval(() => {
      const { frame, span } = inspector.state;
      inspector.set({ frame: frame + 1 < span[1] ? frame + 1 : span[0] });
    }, 1000 / (FRAMES_A_SECOND * Number(this.speed.value)));
  }

  start() {
    this.video.play().catch((error) => { if (error.name !== "AbortError") this.stop(); });
  }

  stop() {
    clearInterval(this.timer);
    this.timer = 0;
    this.video?.pause();
    this.inspector.set({ playing: false });
  }
}
