/** How maps are drawn: a model's atlas taken apart, values painted as colours over a picture. */

import { make } from "./page.js";

/** @typedef {import("./maps_view.js").Model} Model */

const OVERLAY = 0.75; // how much of the map there is over a picture
// Dark blue to yellow, even in lightness, safe for colour-blind eyes (after cividis).
const SEQUENTIAL = [[0, 32, 76], [66, 78, 107], [124, 123, 120], [189, 173, 103], [255, 233, 69]];
// Blue where attention has gone, white where it stayed, orange where it has come.
const DIVERGING = [[25, 90, 160], [150, 190, 220], [247, 247, 247], [245, 190, 130], [200, 90, 10]];

export { DIVERGING, SEQUENTIAL };

/** One model's maps and picture, once the browser has read them. */
export class Source {
  /**
   * @param {Model} model
   * @param {() => void} onReady
   */
  constructor(model, onReady) {
    /** @type {ImageData | null} */
    this.pixels = null;
    /** @type {HTMLImageElement | null} */
    this.picture = null;
    this.hasPicture = Boolean(model.picture);
    load(model.atlas, (image) => {
      this.pixels = pixelsOf(image);
      onReady();
    });
    if (!model.picture) return;
    load(model.picture, (image) => {
      this.picture = image;
      onReady();
    });
  }

  get isRead() {
    return Boolean(this.pixels && (this.picture || !this.hasPicture));
  }

  /**
   * One map's values in 0..255, row by row; null while there are none.
   * @param {[number, number]} grid
   * @param {number} column
   * @param {number} row
   */
  map([height, width], column, row) {
    const { pixels } = this;
    if (!pixels) return null;
    return Array.from({ length: height * width }, (_, at) => {
      const y = row * height + Math.floor(at / width);
      return pixels.data[4 * (y * pixels.width + column * width + (at % width))];
    });
  }
}

/**
 * @param {string} source
 * @param {(image: HTMLImageElement) => void} onLoad
 */
function load(source, onLoad) {
  const image = new Image();
  image.onload = () => onLoad(image);
  image.src = source;
}

/** @param {HTMLImageElement} image */
function pixelsOf(image) {
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d");
  context?.drawImage(image, 0, 0);
  return context?.getImageData(0, 0, canvas.width, canvas.height) ?? null;
}

/**
 * Draws a map, over a picture in grey where there is one.
 * @param {HTMLCanvasElement} canvas
 * @param {number[]} values in 0..1
 * @param {[number, number]} grid
 * @param {number[][]} stops
 * @param {HTMLImageElement | null} picture
 */
export function paint(canvas, values, [height, width], stops, picture) {
  const context = canvas.getContext("2d");
  if (!context) return;
  const small = document.createElement("canvas");
  small.width = width;
  small.height = height;
  const pixels = new ImageData(width, height);
  values.forEach((value, at) => pixels.data.set([...colour(value, stops), 255], 4 * at));
  small.getContext("2d")?.putImageData(pixels, 0, 0);
  context.globalAlpha = 1;
  if (picture) {
    context.filter = "grayscale(1)";
    context.drawImage(picture, 0, 0, canvas.width, canvas.height);
    context.filter = "none";
    context.globalAlpha = OVERLAY;
  }
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

/**
 * @param {number} value in 0..1
 * @param {number[][]} stops
 */
function colour(value, stops) {
  const place = Math.min(Math.max(value, 0), 1) * (stops.length - 1);
  const below = Math.min(Math.floor(place), stops.length - 2);
  return stops[below].map((part, at) => part + (place - below) * (stops[below + 1][at] - part));
}

/**
 * A bar of colours between what its ends mean.
 * @param {number[][]} stops
 * @param {string} low
 * @param {string} high
 */
export function scale(stops, low, high) {
  const element = make("div", "scale");
  const bar = make("span", "bar");
  const colours = stops.map((stop) => `rgb(${stop.join(" ")})`);
  bar.style.background = `linear-gradient(to right, ${colours.join(", ")})`;
  element.append(make("span", "low", low), bar, make("span", "high", high));
  return element;
}
