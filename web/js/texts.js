/** The text that a node leaves when it runs, shown on the node: cards, plans and reports. */

import { api } from "../../../scripts/api.js";
import { View, addViews, make } from "./page.js";
import { told } from "./sentences.js";
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

/**
 * A picture that a node left, as the server keeps it.
 * @param {{ filename: string, subfolder: string, type: string }} file
 */
function pictureOf(file) {
  const picture = /** @type {HTMLImageElement} */ (make("img", "picture"));
  picture.src = api.apiURL(`/view?${new URLSearchParams(file)}`);
  picture.alt = "";
  return picture;
}

class TextView extends View {
  /**
   * @param {() => void} onHeight called when `height` has changed
   * @param {(plan: string) => void} onEdit
   * @param {boolean} pictures whether it shows the node's pictures, too
   */
  constructor(onHeight, onEdit, pictures) {
    super("eraseanything-text", said("Result"), onHeight);
    this.plan = "";
    this.text = make("p", "text");
    this.text.setAttribute("role", "status");
    this.text.tabIndex = 0; // a long text is scrolled by keyboard
    this.button = make("button", "edit", said("Edit this plan"));
    this.button.setAttribute("type", "button");
    this.button.hidden = true;
    this.button.addEventListener("click", () => onEdit(this.plan));
    this.pictures = pictures ? make("div", "pictures") : undefined;
    this.body.append(this.text, this.button, ...(this.pictures ? [this.pictures] : []));
  }

  /** @param {any} output */
  show(output) {
    const text = output?.text?.[0];
    if (typeof text !== "string") return;
    this.text.textContent = told(text);
    this.plan = output[PLAN]?.[0] ?? "";
    this.button.hidden = !this.plan || this.pictures !== undefined; // which subgraph's plan?
    this.pictures?.replaceChildren(...(output.images ?? []).map(pictureOf));
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
  // A subgraph does not show its nodes' pictures by itself.
  create: (node, onHeight) =>
    new TextView(onHeight, (plan) => edit(node, plan), Boolean(node.subgraph)),
  pick: (output) => output,
});
