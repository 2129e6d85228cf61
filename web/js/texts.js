/** The text that a node leaves when it runs, shown on the node: cards, plans and reports. */

import { View, addViews, make } from "./page.js";
import { said } from "./words.js";

const PLAN = "eraseanything_plan"; // the key of a plan's JSON in a node's output

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

class TextView extends View {
  /**
   * @param {() => void} onHeight called when `height` has changed
   * @param {(plan: string) => void} onEdit
   */
  constructor(onHeight, onEdit) {
    super("eraseanything-text", said("Result"), onHeight);
    this.plan = "";
    this.text = make("p", "text");
    this.text.setAttribute("role", "status");
    this.text.tabIndex = 0; // a long text is scrolled by keyboard
    this.button = make("button", "edit", said("Edit this plan"));
    this.button.setAttribute("type", "button");
    this.button.hidden = true;
    this.button.addEventListener("click", () => onEdit(this.plan));
    this.body.append(this.text, this.button);
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
}

addViews({
  name: "eraseanything.texts",
  styles: "texts.css",
  nodes: [
    "EraseAnythingApply",
    "EraseAnythingMerge",
    "EraseAnythingPlan",
    "EraseAnythingPromptList",
    "EraseAnythingReport",
  ],
  widget: "eraseanything_text",
  create: (node, onHeight) => new TextView(onHeight, (plan) => edit(node, plan)),
  pick: (output) => output,
});
