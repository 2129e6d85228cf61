/** Names and seeds of our nodes' widgets, where the page itself does not see to them. */

import { app } from "../../../scripts/app.js";
import { CATEGORY, translateInputs } from "./names.js";
import { allNodes, make } from "./page.js";

const CONTROLS = ["fixed", "increment", "decrement", "randomize"]; // of a seed after each run
const NAME_HEIGHT = "16px";
const OLDER_NODES_2 = "[node-id] > textarea[aria-label]"; // boxes of its own, by that page

app.registerExtension({
  name: "eraseanything.widgets",
  setup: () => nameBoxesOfOlderNodes2(),
  beforeRegisterNodeDef(/** @type {any} */ kind, nodeData) {
    if (nodeData.category !== CATEGORY) return;
    const { configure } = kind.prototype;
    kind.prototype.configure = function (/** @type {any} */ saved) {
      configure.call(this, withSeedControl(this, saved));
      nameInputs(this);
    };
  },
  nodeCreated(/** @type {any} */ node) {
    if (showsOurs(node)) setTimeout(() => nameSubgraph(node));
    if (!isOurs(node)) return;
    const control = node.widgets?.[seedOf(node) + 1];
    if (CONTROLS.includes(control?.value)) control.value = CONTROLS[0]; // the page's own: randomize
    nameInputs(node);
    nameBoxes(node);
  },
});

/** @param {any} node */
const isOurs = (node) => node.constructor.nodeData?.category === CATEGORY;

/** @param {any} node */
const showsOurs = (node) => node.subgraph && allNodes(node.subgraph).some(isOurs);

/**
 * Names what a subgraph shows of its nodes: once it is configured, it has that.
 * @param {any} node
 */
function nameSubgraph(node) {
  translateInputs(node);
  nameBoxes(node);
}

/** @param {any} node */
function nameBoxes(node) {
  for (const widget of node.widgets ?? []) nameBox(widget);
}

/**
 * The place of the node's seed among its widgets, -1 where it has none.
 * @param {any} node
 * @returns {number}
 */
function seedOf(node) {
  return node.widgets?.findIndex((/** @type {any} */ each) => each.name === "seed") ?? -1;
}

/**
 * A saved node with its seed's control: workflows from before it came have none, and what follows
 * would stand one place too early.
 * @param {any} node
 * @param {any} saved
 */
function withSeedControl(node, saved) {
  const [at, values] = [seedOf(node) + 1, saved.widgets_values];
  if (!at || !Array.isArray(values) || CONTROLS.includes(values[at])) return saved;
  return { ...saved, widgets_values: [...values.slice(0, at), CONTROLS[0], ...values.slice(at)] };
}

/**
 * Shows the names that the server gives inputs; older pages show ids. Translations stay.
 * @param {any} node
 */
function nameInputs(node) {
  const { required, optional } = node.constructor.nodeData.input;
  for (const [id, spec] of Object.entries({ ...required, ...optional })) {
    const name = spec[1]?.display_name;
    if (!name) continue;
    const widget = node.widgets?.find((/** @type {any} */ each) => each.name === id);
    const socket = node.inputs?.find((/** @type {any} */ each) => each.name === id);
    if (widget && (widget.label ?? id) === id) widget.label = name;
    if (socket && (socket.localized_name ?? id) === id) socket.localized_name = name;
  }
}

/**
 * Keeps a box's name in sight once it is filled: the classic canvas shows it only in an empty one.
 * @param {any} widget
 */
function nameBox(widget) {
  const box = widget.element;
  if (!(box instanceof HTMLTextAreaElement) || box.dataset.eraseanything) return;
  const name = nameOver(box, widget.label ?? widget.name);
  // The page puts the box into the document later, and again when a workflow comes back in front.
  new ResizeObserver(() => {
    if (box.previousSibling !== name) box.before(name);
  }).observe(box);
}

/** The same in Nodes 2.0 of older pages, which draw boxes of their own; newer ones name them. */
function nameBoxesOfOlderNodes2() {
  new MutationObserver((changes) => {
    const added = changes.flatMap((change) => [...change.addedNodes]);
    const boxes = added.flatMap((each) =>
      each instanceof Element ? [...each.querySelectorAll(OLDER_NODES_2)] : [],
    );
    for (const box of boxes) if (box instanceof HTMLTextAreaElement) nameDrawnBox(box);
  }).observe(document.body, { childList: true, subtree: true });
}

/** @param {HTMLTextAreaElement} box */
function nameDrawnBox(box) {
  const node = /** @type {any} */ (
    app.canvas.graph?.getNodeById(box.parentElement?.getAttribute("node-id") ?? "")
  );
  if (box.dataset.eraseanything || !node || !(isOurs(node) || showsOurs(node))) return;
  const widget = node.widgets.find((/** @type {any} */ each) => each.name === box.ariaLabel);
  if (widget) box.after(nameOver(box, widget.label ?? widget.name));
}

/**
 * What stands over a box's text; the box leaves room for it.
 * @param {HTMLTextAreaElement} box
 * @param {string} label
 */
function nameOver(box, label) {
  box.dataset.eraseanything = "named";
  box.placeholder = "";
  box.style.paddingTop = NAME_HEIGHT;
  box.setAttribute("aria-label", label);
  const name = make("span", "eraseanything-name", label);
  Object.assign(name.style, {
    position: "absolute",
    inset: "2px auto auto 4px",
    fontSize: "10px",
    opacity: "0.7",
    pointerEvents: "none",
  });
  return name;
}
