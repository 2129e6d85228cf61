/** What one node shows of its attention maps: words to choose, their maps, a slider over steps. */

import { DIVERGING, SEQUENTIAL, Source, paint, scale } from "./maps_paint.js";
import { View, make } from "./page.js";
import { told } from "./sentences.js";
import { said } from "./words.js";

/**
 * One word: what saliency held it against, and its mean for each model.
 * @typedef {{name: string, against: string[], means: Record<string, number | null>}} Word
 */
/**
 * One model: its maps as one grey picture, a column for each word, a row for the mean and for each
 * step; and the picture it drew.
 * @typedef {{name: string, atlas: string, picture: string | null}} Model
 */
/**
 * All maps of one run, as the server tells them.
 * @typedef {object} Maps
 * @property {string} prompt
 * @property {string} view
 * @property {number} highest what white stands for in every atlas, that or more
 * @property {[number, number]} grid rows and columns of a map
 * @property {number[]} steps the step of each row
 * @property {number} total
 * @property {number} first index of the word to begin with
 * @property {string} note what else there is to say of the pictures, or nothing
 * @property {Word[]} words
 * @property {Model[]} models
 */

const IDLE = "Words and their maps appear here when the node has run.";
const MODELS = /** @type {Record<string, string>} */ ({ before: "before", after: "after" });
const SIDE = 256; // pixels of a drawn map, before the page scales it
const OWN_KEYS = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "Enter", " "];

export class MapsView extends View {
  /** @param {() => void} onHeight called when `height` has changed */
  constructor(onHeight) {
    super("eraseanything-maps", said("Attention maps"), onHeight);
    /** @type {Maps | null} */
    this.maps = null;
    /** @type {Source[]} */
    this.sources = [];
    this.chosen = 0; // index of a word
    /** @type {number | null} index of the word that is pointed at */
    this.pointed = null;
    this.element.dataset.state = "idle";
    this.message = make("p", "message", said(IDLE));
    this.chips = make("div", "chips");
    this.chips.setAttribute("role", "group");
    this.chips.setAttribute("aria-label", said("Words"));
    this.tiles = make("div", "tiles");
    this.figures = make("p", "figures");
    this.figures.setAttribute("role", "status");
    this.scales = make("div", "scales");
    this.slider = input("range");
    this.slider.min = this.slider.max = this.slider.value = "0";
    this.slider.setAttribute("aria-label", said("Step"));
    this.slider.addEventListener("input", () => this.draw());
    this.over = input("checkbox");
    this.over.checked = true;
    this.over.addEventListener("change", () => this.draw());
    this.step = make("span", "step");
    this.overLabel = make("label", "over");
    this.overLabel.append(this.over, said("over the picture"));
    this.controls = make("div", "controls");
    this.controls.append(this.slider, this.step, this.overLabel);
    this.body.append(this.message, this.chips, this.tiles, this.controls, this.figures, this.scales);
    this.element.addEventListener("keydown", keepKey);
    this.measure();
  }

  /**
   * Shows the maps of a run; the word, if it is still there, and the step stay chosen.
   * @param {Maps} maps
   */
  show(maps) {
    if (this.maps === maps) return;
    const before = this.maps?.words[this.chosen]?.name;
    this.maps = maps;
    const same = maps.words.findIndex((word) => word.name === before);
    this.chosen = same < 0 ? maps.first : same;
    this.pointed = null;
    this.message.textContent = "";
    this.element.dataset.state = "reading";
    this.slider.max = String(maps.steps.length);
    this.overLabel.hidden = maps.models.every((model) => !model.picture);
    this.sources = maps.models.map((model) => new Source(model, () => this.draw()));
    this.showChips(maps);
    this.showTiles(maps);
    this.draw();
    this.measure();
  }

  /** @param {Maps} maps */
  showChips(maps) {
    const chips = maps.words.map((word, index) => {
      const chip = make("button", "chip", word.name);
      chip.setAttribute("type", "button");
      for (const event of ["pointerenter", "focus"]) {
        chip.addEventListener(event, () => this.point(index));
      }
      for (const event of ["pointerleave", "blur"]) {
        chip.addEventListener(event, () => this.point(null));
      }
      chip.addEventListener("click", () => this.choose(index));
      return chip;
    });
    this.chips.replaceChildren(...chips);
  }

  /** @param {Maps} maps */
  showTiles(maps) {
    const names = maps.models.map((model) => nameOf(model.name));
    if (names.length === 2) names.push(said("difference"));
    const tiles = names.map((name) => {
      const tile = make("figure", "tile");
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = SIDE;
      canvas.setAttribute("role", "img");
      tile.append(canvas, make("figcaption", "name", name));
      return tile;
    });
    this.tiles.replaceChildren(...tiles);
    this.scales.replaceChildren(
      scale(SEQUENTIAL, "0", said("{percent} or more", { percent: percent(maps.highest) })),
      ...(names.length > 2 ? [scale(DIVERGING, said("gone"), said("has come"))] : []),
    );
  }

  /** @param {number | null} index */
  point(index) {
    this.pointed = index;
    this.draw();
  }

  /** @param {number} index */
  choose(index) {
    this.chosen = index;
    this.draw();
  }

  draw() {
    const { maps } = this;
    if (!maps) return;
    const index = this.pointed ?? this.chosen;
    const row = Number(this.slider.value);
    const { total } = maps;
    const step = row
      ? said("step {step} of {total}", { step: maps.steps[row - 1], total })
      : said("all {total} steps", { total });
    this.step.textContent = step;
    this.slider.setAttribute("aria-valuetext", step);
    [...this.chips.children].forEach((chip, at) => {
      chip.setAttribute("aria-pressed", String(at === this.chosen));
      chip.classList.toggle("shown", at === index);
    });
    const note = maps.note ? `; ${told(maps.note)}` : "";
    const text = figures(maps.words[index], maps.view) + note;
    if (this.figures.textContent !== text) this.figures.textContent = text;
    this.drawTiles(maps, index, row);
    if (this.sources.every((source) => source.isRead)) this.element.dataset.state = "done";
  }

  /**
   * @param {Maps} maps
   * @param {number} index of a word
   * @param {number} row of the atlas
   */
  drawTiles(maps, index, row) {
    const values = this.sources.map((source) => source.map(maps.grid, index, row));
    const [before, after] = values;
    const layers = this.sources.map((source, at) => ({
      values: values[at]?.map((value) => value / 255),
      stops: SEQUENTIAL,
      picture: this.over.checked ? source.picture : null,
    }));
    if (before && after) {
      const change = after.map((value, at) => (value - before[at]) / 510 + 0.5);
      layers.push({ values: change, stops: DIVERGING, picture: null });
    }
    layers.forEach((layer, at) => {
      const canvas = this.tiles.children[at]?.querySelector("canvas");
      const name = this.tiles.children[at]?.querySelector("figcaption")?.textContent;
      if (!canvas || !layer.values) return;
      canvas.setAttribute("aria-label", `${maps.words[index].name}, ${name}`);
      paint(canvas, layer.values, maps.grid, layer.stops, layer.picture);
    });
  }
}

/**
 * A word's numbers in a sentence.
 * @param {Word} word
 * @param {string} view
 */
function figures(word, view) {
  const means = Object.entries(word.means).map(([name, mean]) => `${nameOf(name)} ${percent(mean)}`);
  const words = word.against.join(", ");
  const against = words && `, ${said("against {words}", { words })}`;
  return `${word.name}: ${means.join(", ")} (${view}${against})`;
}

/** @param {string} model as the server calls it */
function nameOf(model) {
  return said(MODELS[model] ?? model);
}

/** @param {number | null} share */
function percent(share) {
  return share === null ? "–" : `${(100 * share).toPrecision(3)}%`;
}

/** @param {string} type */
function input(type) {
  const element = document.createElement("input");
  element.type = type;
  return element;
}

/**
 * Keeps keys that our controls use from the canvas, where some of them mean something else.
 * @param {KeyboardEvent} event
 */
function keepKey(event) {
  if (OWN_KEYS.includes(event.key) && !event.ctrlKey && !event.metaKey) event.stopPropagation();
}
