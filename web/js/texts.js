/**
 * The text that a node leaves when it runs, shown on the node: cards, plans and reports.
 *
 * Where the backend is absent no such node exists, so nothing here runs beyond its registration.
 */

import { app } from "../../../scripts/app.js";
import { addStyles, attach, make, makeRoom, nodeAt } from "./page.js";

const NODES = ["EraseAnythingApply", "EraseAnythingPlan", "EraseAnythingReport"];
const PLAN = "eraseanything_plan"; // the key of a plan's JSON in a node's output
const WIDGET = "eraseanything_text"; // name and type: no other pack draws widgets of this type

// By node, since a node has no id yet when it is created.
/** @type {WeakMap<object, TextView>} */
const views = new WeakMap();

app.registerExtension({
  name: "eraseanything.texts",

  async init() {
    addStyles("texts.css");
  },

  nodeCreated(node) {
    if (!NODES.includes(node.comfyClass ?? "")) return;
    const view = new TextView(
      () => makeRoom(/** @type {ComfyNode} */ (node), view),
      (plan) => edit(/** @type {ComfyNode} */ (node), plan),
    );
    views.set(node, view);
    attach(/** @type {ComfyNode} */ (node), view, WIDGET, (output) => view.show(output));
  },

  onNodeOutputsUpdated(/** @type {Record<string, any>} */ outputs) {
    for (const [id, output] of Object.entries(outputs)) {
      const node = nodeAt(app.rootGraph, id);
      if (node) views.get(node)?.show(output);
    }
  },
});

/**
 * Puts a plan where it can be changed.
 * @param {any} node
 * @param {string} plan
 */
function edit(node, plan) {
  const widget = node.widgets?.find((/** @type {any} */ each) => each.name === "edited");
  if (!widget) return;
  widget.value = plan;
  widget.callback?.(plan);
}

class TextView {
  /**
   * @param {() => void} onHeight called when `height` has changed
   * @param {(plan: string) => void} onEdit
   */
  constructor(onHeight, onEdit) {
    this.onHeight = onHeight;
    this.height = 0;
    this.plan = "";
    this.element = make("section", "eraseanything-text");
    this.element.setAttribute("aria-label", "Result");
    this.text = make("p", "text");
    this.text.setAttribute("role", "status");
    this.text.tabIndex = 0; // a long text is scrolled by keyboard
    this.button = make("button", "edit", "Edit this plan");
    this.button.setAttribute("type", "button");
    this.button.hidden = true;
    this.button.addEventListener("click", () => onEdit(this.plan));
    this.body = make("div", "body");
    this.body.append(this.text, this.button);
    this.element.append(this.body);
    this.resized = new ResizeObserver(() => this.measure());
    this.resized.observe(this.body);
  }

  /** Ends what would outlive the node. */
  close() {
    this.resized.disconnect();
  }

  /** @param {any} output */
  show(output) {
    const text = output?.text?.[0];
    if (typeof text !== "string") return;
    this.text.textContent = text;
    this.plan = output[PLAN]?.[0] ?? "";
    this.button.hidden = !this.plan;
    this.measure();
  }

  /** The body's height as it is laid out, whatever the canvas's zoom. */
  measure() {
    const height = this.body.offsetHeight;
    if (!height || height === this.height) return;
    this.height = height;
    this.onHeight();
  }
}
