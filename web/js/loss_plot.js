/** A curve for each loss on one canvas, each on its own scale from zero to its highest value. */

import { said } from "./words.js";

/**
 * @typedef {{name: string, label: string, value: number | null, color: string, dash: string}} Value
 */

const LABELS = /** @type {Record<string, string>} */ ({
  esd: "erase",
  attention: "attention",
  keep: "keep",
  rsc: "contrast",
  reconstruction: "pictures",
  multiplier: "keep weight",
  attack: "holds",
});

// Okabe and Ito's colours, told apart by colour-blind people, and darker ones for a light page.
const ON_DARK = ["#e69f00", "#56b4e9", "#2fc79a", "#e58fc0", "#f0e442"];
const ON_LIGHT = ["#b34700", "#0072b2", "#00785a", "#9b3f78", "#6b6200"];
const DASHES = /** @type {[string, number[]][]} */ ([
  ["solid", []],
  ["dashed", [6, 3]],
  ["dotted", [2, 2]],
  ["long", [10, 3]],
  ["solid", []],
]);
const SMOOTHED = 0.25; // weight of a new value in the strong line
const MARGIN = 4; // pixels around the curves

export class LossPlot {
  /** @param {() => void} onCursor called when the pointed-at step has changed */
  constructor(onCursor) {
    this.onCursor = onCursor;
    /** @type {number[]} */
    this.steps = [];
    /** @type {Record<string, (number | null)[]>} */
    this.losses = {};
    this.total = 0;
    /** @type {number | null} index of a point */
    this.cursor = null;
    this.element = document.createElement("div");
    this.element.className = "plot";
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("aria-hidden", "true");
    this.element.append(this.canvas);
    this.element.addEventListener("pointermove", (event) => this.pointAt(event));
    this.element.addEventListener("pointerleave", () => this.moveTo(null));
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(this.element);
    // Themes are set as style and class of the page's root.
    this.themed = new MutationObserver(() => {
      this.draw();
      this.onCursor();
    });
    for (const root of [document.documentElement, document.body]) {
      this.themed.observe(root, { attributeFilter: ["class", "style"] });
    }
  }

  close() {
    this.resized.disconnect();
    this.themed.disconnect();
  }

  /**
   * @param {number[]} steps
   * @param {Record<string, (number | null)[]>} losses
   * @param {number} total
   */
  show(steps, losses, total) {
    Object.assign(this, { steps, losses, total });
    this.element.hidden = !steps.length;
    if (this.cursor !== null && this.cursor >= steps.length) this.cursor = null;
    this.draw();
  }

  /** What the legend says: each loss's value at the cursor, else its latest. */
  values() {
    const colors = this.colors();
    return latest(this.losses, this.cursor ?? undefined).map((one, index) => ({
      ...one,
      color: colors[index % colors.length],
      dash: DASHES[index % DASHES.length][0],
    }));
  }

  colors() {
    const [red = 255, green = 255, blue = 255] =
      getComputedStyle(this.element).color.match(/[\d.]+/g)?.map(Number) ?? [];
    return 0.3 * red + 0.6 * green + 0.1 * blue > 128 ? ON_DARK : ON_LIGHT;
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.element;
    const context = this.canvas.getContext("2d");
    if (!context || !width || !height) return;
    // Twice as fine as the page, since the graph may be zoomed in.
    const scale = 2 * (window.devicePixelRatio || 1);
    this.canvas.width = width * scale;
    this.canvas.height = height * scale;
    context.scale(scale, scale);
    this.drawFrame(context, width, height);
    this.values().forEach(({ name, color }, index) => {
      context.strokeStyle = color;
      const values = this.losses[name];
      const top = Math.max(...values.map((value) => value ?? 0)) || 1;
      const place = (/** @type {number} */ value, /** @type {number} */ at) =>
        this.place(this.steps[at], value / top, width, height);
      stroke(context, values, place, 0.35, []);
      stroke(context, smooth(values), place, 1, DASHES[index % DASHES.length][1]);
    });
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {number} width
   * @param {number} height
   */
  drawFrame(context, width, height) {
    context.strokeStyle = getComputedStyle(this.element).color;
    context.globalAlpha = 0.25;
    context.lineWidth = 1;
    const [, bottom] = this.place(0, 0, width, height);
    line(context, [MARGIN, bottom], [width - MARGIN, bottom]);
    if (this.cursor === null) return;
    const [x] = this.place(this.steps[this.cursor], 0, width, height);
    context.globalAlpha = 0.8;
    line(context, [x, MARGIN], [x, bottom]);
  }

  /**
   * Where a step and a share of the highest value lie.
   * @param {number} step
   * @param {number} share
   * @param {number} width
   * @param {number} height
   * @returns {[number, number]}
   */
  place(step, share, width, height) {
    const along = (step - 1) / Math.max(this.total - 1, 1);
    return [
      MARGIN + Math.max(along, 0) * (width - 2 * MARGIN),
      height - MARGIN - share * (height - 2 * MARGIN),
    ];
  }

  /** @param {PointerEvent} event */
  pointAt(event) {
    const { left, width } = this.element.getBoundingClientRect();
    const step = 1 + ((event.clientX - left) / width) * (this.total - 1);
    const distances = this.steps.map((each) => Math.abs(each - step));
    this.moveTo(distances.length ? distances.indexOf(Math.min(...distances)) : null);
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const last = this.steps.length - 1;
    const now = this.cursor ?? last;
    const moves = /** @type {Record<string, number | null>} */ ({
      ArrowLeft: Math.max(now - 1, 0),
      ArrowRight: Math.min(now + 1, last),
      Home: 0,
      End: last,
      Escape: null,
    });
    if (last < 0 || !(event.key in moves)) return;
    event.preventDefault();
    event.stopPropagation();
    this.moveTo(moves[event.key]);
  }

  /** @param {number | null} cursor */
  moveTo(cursor) {
    if (cursor === this.cursor) return;
    this.cursor = cursor;
    this.draw();
    this.onCursor();
  }
}

/**
 * Each loss with its value at one point, or its last one.
 * @param {Record<string, (number | null)[]>} losses
 * @param {number} [at]
 */
export function latest(losses, at = -1) {
  return Object.entries(losses).map(([name, values]) => ({
    name,
    label: said(LABELS[name] ?? name),
    value: values.at(at) ?? null,
  }));
}

/**
 * A running mean, so that the way down is seen through the noise of small batches.
 * @param {(number | null)[]} values
 */
function smooth(values) {
  /** @type {number | null} */
  let mean = null;
  return values.map((value) => {
    if (value !== null) mean = mean === null ? value : mean + SMOOTHED * (value - mean);
    return value === null ? null : mean;
  });
}

/**
 * A line through the values, with a gap where there is none.
 * @param {CanvasRenderingContext2D} context
 * @param {(number | null)[]} values
 * @param {(value: number, at: number) => [number, number]} place
 * @param {number} alpha
 * @param {number[]} dash
 */
function stroke(context, values, place, alpha, dash) {
  context.globalAlpha = alpha;
  context.lineWidth = alpha === 1 ? 1.75 : 1;
  context.setLineDash(dash);
  context.beginPath();
  let pen = false;
  values.forEach((value, at) => {
    if (value !== null) {
      const [x, y] = place(value, at);
      if (pen) context.lineTo(x, y);
      else context.moveTo(x, y);
    }
    pen = value !== null;
  });
  context.stroke();
  context.setLineDash([]);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {[number, number]} from
 * @param {[number, number]} to
 */
function line(context, from, to) {
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.stroke();
}
