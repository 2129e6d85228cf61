/** Names and seeds of our nodes' widgets, where the page itself does not see to them. */

import { app } from "../../../scripts/app.js";
import { CATEGORY, translateInputs } from "./names.js";
import { allNodes, make } from "./page.js";

const CONTROLS = ["fixed", "increment", "decrement", "randomize"]; // of a seed after each run
const NAME_HEIGHT = "16px";

app.registerExtension({
  name: "eraseanything.widgets",
  beforeRegisterNodeDef(/** @type {any} */ kind, nodeData) {
    if (nodeData.category !== CATEGORY) return;
    const { configure } = kind.prototype;
    kind.prototype.configure = function (/** @type {any} */ saved) {
      configure.call(this, withSeedControl(this, saved));
      nameInputs(this);
    };
  },
  nodeCreated(/** @type {any} */ node) {
    if (node.subgraph && allNodes(node.subgraph).some(isOurs)) setTimeout(() => nameSubgraph(node));
    if (!isOurs(node)) return;
    const control = node.widgets?.[seedOf(node) + 1];
    if (CONTROLS.includes(control?.value)) control.value = CONTROLS[0]; // the page's own: randomize
    nameInputs(node);
    nameBoxes(node);
  },
});

/** @param {any} node */
const isOurs = (node) => node.constructor.nodeData?.category === CATEGORY;

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
 * Keeps a box's name in sight once it is filled. The classic canvas shows a name only in an empty
 * box; Nodes 2.0 draws boxes of its own, with names.
 * @param {any} widget
 */
function nameBox(widget) {
  const box = widget.element;
  if (!(box instanceof HTMLTextAreaElement) || box.dataset.eraseanything) return;
  box.dataset.eraseanything = "named";
  const label = widget.label ?? widget.name;
  const name = make("span", "eraseanything-name", label);
  Object.assign(name.style, {
    position: "absolute",
    inset: "2px auto auto 4px",
    fontSize: "10px",
    opacity: "0.7",
    pointerEvents: "none",
  });
  box.placeholder = "";
  box.style.paddingTop = NAME_HEIGHT;
  box.setAttribute("aria-label", label);
  // The page puts the box into the document later, and again when a workflow comes back in front.
  new ResizeObserver(() => {
    if (box.previousSibling !== name) box.before(name);
  }).observe(box);
}
