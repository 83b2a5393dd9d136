/** The view as a file. */

import { create, FONT } from "./drawing.js";

/** The part of a 2D context that the panels use, written as SVG: lines and words stay lines and words. */
export class SvgContext {
  constructor(width, height) {
    Object.assign(this, { width, height, parts: [], path: "", stack: [], clips: 0, dash: [], shift: [0, 0], open: 0,
      fillStyle: "#000", strokeStyle: "#000", lineWidth: 1, globalAlpha: 1, font: FONT, textAlign: "left", textBaseline: "alphabetic" });
    this.measuring = document.createElement("canvas").getContext("2d");
  }

  measureText(words) { this.measuring.font = this.font; return this.measuring.measureText(words); }
  setLineDash(dash) { this.dash = dash; }
  beginPath() { this.path = ""; }
  moveTo(x, y) { this.path += `M${this.x(x)} ${this.y(y)}`; }
  lineTo(x, y) { this.path += `L${this.x(x)} ${this.y(y)}`; }
  rect(x, y, width, height) { this.path += `M${this.x(x)} ${this.y(y)}h${width}v${height}h${-width}z`; }
  translate(x, y) { this.shift = [this.shift[0] + x, this.shift[1] + y]; }
  x(value) { return +(value + this.shift[0]).toFixed(2); }
  y(value) { return +(value + this.shift[1]).toFixed(2); }

  save() { this.stack.push({ shift: this.shift, open: this.open }); }

  restore() {
    const { shift, open } = this.stack.pop();
    for (; this.open > open; this.open--) this.parts.push("</g>");
    this.shift = shift;
  }

  clip() {
    const id = `clip${this.clips++}`;
    this.parts.push(`<clipPath id="${id}"><path d="${this.path}"/></clipPath><g clip-path="url(#${id})">`);
    this.open++;
  }

  stroke() {
    const dash = this.dash.length ? ` stroke-dasharray="${this.dash.join(" ")}"` : "";
    this.parts.push(`<path d="${this.path}" fill="none" stroke="${this.strokeStyle}" stroke-width="${this.lineWidth}"${dash}${this.alpha()}/>`);
  }

  strokeRect(x, y, width, height) { this.beginPath(); this.rect(x, y, width, height); this.stroke(); }

  fillRect(x, y, width, height) {
    this.parts.push(`<rect x="${this.x(x)}" y="${this.y(y)}" width="${+width.toFixed(2)}" height="${+height.toFixed(2)}" fill="${this.fillStyle}"${this.alpha()}/>`);
  }

  fillText(words, x, y) {
    const anchor = { left: "start", center: "middle", right: "end" }[this.textAlign];
    const weight = this.font.startsWith("600") ? ' font-weight="600"' : "";
    const drop = this.textBaseline === "middle" ? 4 : 0;
    this.parts.push(`<text x="${this.x(x)}" y="${this.y(y + drop)}" text-anchor="${anchor}" fill="${this.fillStyle}"${weight}>${escaped(words)}</text>`);
  }

  drawImage(image, left, top, width, height, x, y, shownWidth, shownHeight) {
    const part = document.createElement("canvas");
    Object.assign(part, { width: Math.max(1, width), height: Math.max(1, height) });
    part.getContext("2d").drawImage(image, left, top, width, height, 0, 0, part.width, part.height);
    this.parts.push(`<image x="${this.x(x)}" y="${this.y(y)}" width="${shownWidth}" height="${shownHeight}" preserveAspectRatio="none"`
      + ` style="image-rendering:${this.imageSmoothingEnabled ? "auto" : "pixelated"}" href="${part.toDataURL()}"/>`);
  }

  alpha() { return this.globalAlpha < 1 ? ` opacity="${this.globalAlpha}"` : ""; }

  toString() {
    return `<svg xmlns="http://www.w3.org/2000/svg" width="${this.width}" height="${this.height}" `
      + `viewBox="0 0 ${this.width} ${this.height}" font-family="system-ui, 'DejaVu Sans', sans-serif" font-size="11">`
      + `${this.parts.join("\n")}</svg>\n`;
  }
}

function escaped(words) {
  return String(words).replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
}

export function download(blob, name) {
  const link = create("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
