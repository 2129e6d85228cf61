/** What our views share: elements, and how a view stands on a node of ComfyUI's page. */

import { app } from "../../../scripts/app.js";

/**
 * Something to be shown on a node. `height` is as it is laid out, whatever the canvas's zoom.
 * @typedef {{element: HTMLElement, height: number, close(): void}} View
 */

const MARGIN = 8; // pixels around a view in the classic canvas

/**
 * Puts a view on a node; `output` is called with each output that the node gets.
 * @param {ComfyNode} node
 * @param {View} view
 * @param {string} type name and type of the widget: one that no other pack draws
 * @param {(output: any) => void} output
 */
export function attach(node, view, type, output) {
  const height = () => view.height + 2 * MARGIN;
  const widget = node.addDOMWidget(type, type, view.element, {
    serialize: false,
    hideOnZoom: false,
    margin: MARGIN,
    getMinHeight: height,
    getMaxHeight: height,
  });
  widget.serialize = false;
  view.element.addEventListener("wheel", zoomCanvas, { passive: false });
  const { onRemoved, onExecuted } = node;
  node.onRemoved = function () {
    view.close();
    onRemoved?.call(this);
  };
  node.onExecuted = function (given) {
    onExecuted?.call(this, given);
    output(given);
  };
}

/**
 * Lets a node grow where its view has become taller.
 * @param {ComfyNode} node
 * @param {View} view
 */
export function makeRoom(node, view) {
  view.element.style.minHeight = `${view.height}px`;
  node.setDirtyCanvas(true, true);
}

/**
 * The node at a path such as "12:5": node 5 in the subgraph of node 12.
 * @param {any} graph
 * @param {string} path
 * @returns {any}
 */
export function nodeAt(graph, path) {
  const [first, ...rest] = path.split(":");
  const node = graph?.getNodeById(first);
  return rest.length && node ? nodeAt(node.subgraph, rest.join(":")) : node;
}

/**
 * Whether a graph or a subgraph in it has a node that `wanted` says yes to.
 * @param {any} graph
 * @param {(node: any) => boolean} wanted
 * @returns {boolean}
 */
export function someNode(graph, wanted) {
  return graph.nodes.some(
    (/** @type {any} */ node) => wanted(node) || (node.subgraph && someNode(node.subgraph, wanted)),
  );
}

/**
 * Adds a style sheet that lies beside the scripts' folder.
 * @param {string} name
 */
export function addStyles(name) {
  const sheet = document.createElement("link");
  sheet.rel = "stylesheet";
  sheet.href = new URL(`../${name}`, import.meta.url).href;
  document.head.append(sheet);
}

/**
 * An element of a class; texts are only ever set as text.
 * @param {string} tag
 * @param {string} className
 * @param {string} [text]
 * @returns {HTMLElement}
 */
export function make(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

/**
 * Zooms the canvas when the wheel turns over a view, as it does over the rest of the node.
 * @param {WheelEvent} event
 */
function zoomCanvas(event) {
  // Nodes 2.0 passes wheel events on by itself.
  if (/** @type {any} */ (globalThis).LiteGraph?.vueNodesMode) return;
  event.preventDefault();
  app.canvas.processMouseWheel(event);
}
