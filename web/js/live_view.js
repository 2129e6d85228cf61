/** What one node shows of its training: where it stands, a curve for each loss, previews. */

import { LossPlot, latest } from "./loss_plot.js";
import { View, make } from "./page.js";
import { told } from "./sentences.js";
import { said } from "./words.js";

/**
 * One prompt's pictures; `change` is the mean difference, as a share of the whole range.
 * `replacement` is what the model drew for the replacement's prompt, before and from the same noise.
 * @typedef {object} Preview
 * @property {string} role
 * @property {string} prompt
 * @property {string} before
 * @property {string} after
 * @property {number} change
 * @property {{prompt: string, picture: string}} [replacement]
 */
/**
 * A training as the server tells it; every event holds all of it.
 * @typedef {object} Run
 * @property {string} node path of the node, "5" or "12:5"
 * @property {string} workflow id of the workflow, or ""
 * @property {number} started seconds since 1970
 * @property {keyof typeof HEADINGS} state
 * @property {string} message
 * @property {number} step
 * @property {number} total
 * @property {number | null} seconds_left
 * @property {number[]} steps
 * @property {Record<string, (number | null)[]>} losses
 * @property {{step: number, prompts: Preview[]} | null} previews
 */

const HEADINGS = {
  starting: "Loading",
  sampling: "Drawing what to learn from",
  solving: "Working out the change",
  solved: "Change worked out",
  hardening: "Closing ways around it",
  training: "Training",
  done: "Done",
  cancelled: "Cancelled",
  failed: "Failed",
};
const IDLE = "Losses and previews appear here while it trains.";
const ROLES = { concept: "to erase", keep: "to keep" };

export class LiveView extends View {
  /** @param {() => void} onHeight called when `height` has changed */
  constructor(onHeight) {
    super("eraseanything-live", said("Training"), onHeight);
    /** @type {Run | null} */
    this.run = null;
    this.element.tabIndex = 0;
    this.state = make("strong", "state");
    this.steps = make("span", "steps");
    this.left = make("span", "left");
    this.message = make("p", "message", said(IDLE));
    this.message.setAttribute("role", "status");
    this.legend = make("ul", "legend");
    this.previews = make("div", "previews");
    this.plot = new LossPlot(() => this.showLegend());
    const head = make("header", "head");
    head.append(this.state, this.steps, this.left);
    this.body.append(head, this.message, this.plot.element, this.legend, this.previews);
    this.element.addEventListener("keydown", (event) => this.plot.onKey(event));
    this.draw();
  }

  /** Ends what would outlive the node. */
  close() {
    super.close();
    this.plot.close();
  }

  /**
   * Shows a run, unless a later one is already there: answers and events may overtake each other.
   * @param {Run} run
   */
  show(run) {
    const now = this.run;
    if (now && (run.started < now.started || (run.started === now.started && isOlder(run, now)))) {
      return;
    }
    this.run = run;
    this.draw();
  }

  draw() {
    const { run } = this;
    this.element.dataset.state = run?.state ?? "idle";
    this.state.textContent = run ? said(HEADINGS[run.state]) : "";
    this.steps.textContent = run?.step ? said("step {step} of {total}", run) : "";
    const time = run?.seconds_left == null ? "" : duration(run.seconds_left);
    this.left.textContent = time && said("{time} left", { time });
    const message = run ? told(run.message) : said(IDLE);
    if (this.message.textContent !== message) this.message.textContent = message;
    this.plot.show(run?.steps ?? [], run?.losses ?? {}, run?.total ?? 0);
    this.showLegend();
    this.showPreviews();
    this.element.setAttribute("aria-label", run ? summary(run) : said("Training"));
    this.measure();
  }

  /** Name and value of each loss: the latest, or those under the pointer. */
  showLegend() {
    const items = this.plot.values().map(({ label, value, color, dash }) => {
      const item = make("li", "loss");
      const sign = make("span", `sign ${dash}`);
      sign.style.setProperty("--color", color);
      item.append(sign, make("span", "name", label), make("span", "value", short(value)));
      return item;
    });
    this.legend.replaceChildren(...items);
  }

  showPreviews() {
    const previews = this.run?.previews;
    const pictures = previews?.prompts.map((one) => previewOf(one, previews.step)) ?? [];
    // Pictures stay in the page as long as they are the same, so that they don't flicker.
    const signature = previews ? `${this.run?.started} ${previews.step}` : "";
    if (this.previews.dataset.shown === signature) return;
    this.previews.dataset.shown = signature;
    this.previews.replaceChildren(...pictures);
  }
}

/**
 * Whether `run` tells of an earlier moment than `now`, of the same training.
 * @param {Run} run
 * @param {Run} now
 */
function isOlder(run, now) {
  const order = Object.keys(HEADINGS);
  const ended = (/** @type {Run} */ one) => order.indexOf(one.state) >= order.indexOf("done");
  return run.step < now.step || (ended(now) && !ended(run));
}

/**
 * One prompt before and after, with its words and how far the picture has changed.
 * @param {Preview} preview
 * @param {number} step
 */
function previewOf(preview, step) {
  const figure = make("figure", "preview");
  const role = said(ROLES[/** @type {keyof typeof ROLES} */ (preview.role)] ?? preview.role);
  const pair = make("div", "pair");
  const before = said("before");
  const now = step ? said("step {step}", { step }) : said("solved");
  pair.append(
    picture(preview.before, before, `${preview.prompt}, ${before}`),
    picture(preview.after, now, `${preview.prompt}, ${now}`),
  );
  const { replacement } = preview;
  if (replacement) {
    pair.append(picture(replacement.picture, said("replacement"), replacement.prompt));
  }
  const caption = make("figcaption", "caption");
  const percent = Math.round(preview.change * 100);
  const change = make("span", "change", said("pixels differ by {percent}%", { percent }));
  caption.append(make("span", "role", role), change, make("span", "prompt", preview.prompt));
  caption.title = preview.prompt;
  figure.append(pair, caption);
  return figure;
}

/**
 * @param {string} source
 * @param {string} when
 * @param {string} description
 */
function picture(source, when, description) {
  const frame = make("span", "picture");
  const image = document.createElement("img");
  image.alt = description;
  image.draggable = false;
  image.src = source;
  frame.append(image, make("span", "when", when));
  return frame;
}

/**
 * The run in a sentence, for those who hear it.
 * @param {Run} run
 */
function summary(run) {
  const where = run.step ? `, ${said("step {step} of {total}", run)}` : "";
  const losses = latest(run.losses).map(({ label, value }) => `${label} ${short(value)}`);
  return `${said(HEADINGS[run.state])}${where}. ${losses.join(", ")}`;
}

/** @param {number | null} value */
function short(value) {
  if (value === null) return "–";
  return value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(1) : value.toPrecision(3);
}

/** @param {number} seconds */
function duration(seconds) {
  const whole = Math.ceil(seconds);
  if (whole < 60) return said("{seconds} s", { seconds: whole });
  const minutes = Math.round(whole / 60);
  if (minutes < 60) return said("{minutes} min", { minutes });
  const hours = Math.floor(minutes / 60);
  return said("{hours} h {minutes} min", { hours, minutes: minutes % 60 });
}
