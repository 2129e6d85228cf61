/**
 * The live view on Erase Concept: one widget on each such node, fed by the server's events.
 *
 * Where the backend is absent no such node exists, so nothing here runs beyond its registration.
 */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { LiveView } from "./live_view.js";

/** @typedef {import("./live_view.js").Run} Run */

const NODE = "EraseAnythingTrain";
const EVENT = "eraseanything.step";
const OUTPUT = "eraseanything"; // the key of our part of a node's output
const MARGIN = 8; // pixels around the view in the classic canvas
const WIDGET = "eraseanything_live"; // name and type: no other pack draws widgets of this type

// By node, since a node has no id yet when it is created.
/** @type {WeakMap<object, LiveView>} */
const views = new WeakMap();

app.registerExtension({
  name: "eraseanything.live",

  async init() {
    const sheet = document.createElement("link");
    sheet.rel = "stylesheet";
    sheet.href = new URL("../live.css", import.meta.url).href;
    document.head.append(sheet);
    api.addEventListener(/** @type {any} */ (EVENT), (event) => {
      show(/** @type {CustomEvent<Run>} */ (event).detail);
    });
  },

  nodeCreated(node) {
    if (node.comfyClass === NODE) addView(/** @type {ComfyNode} */ (node));
  },

  async afterConfigureGraph() {
    if (app.rootGraph && someNode(app.rootGraph)) await restore();
  },

  onNodeOutputsUpdated(/** @type {Record<string, unknown>} */ outputs) {
    for (const [id, output] of Object.entries(outputs)) {
      showOutput(nodeAt(app.rootGraph, id), output);
    }
  },
});

/**
 * Puts a view on a node.
 * @param {ComfyNode} node
 */
function addView(node) {
  const view = new LiveView(() => makeRoom(node, view));
  views.set(node, view);
  const widget = node.addDOMWidget(WIDGET, WIDGET, view.element, {
    serialize: false,
    hideOnZoom: false,
    margin: MARGIN,
    getMinHeight: () => view.height + 2 * MARGIN,
    getMaxHeight: () => view.height + 2 * MARGIN,
  });
  widget.serialize = false;
  view.element.addEventListener("wheel", zoomCanvas, { passive: false });
  const { onRemoved, onExecuted } = node;
  node.onRemoved = function () {
    view.close();
    onRemoved?.call(this);
  };
  node.onExecuted = function (output) {
    onExecuted?.call(this, output);
    showOutput(node, output);
  };
}

/**
 * Lets a node grow where its view has become taller.
 * @param {ComfyNode} node
 * @param {LiveView} view
 */
function makeRoom(node, view) {
  view.element.style.minHeight = `${view.height}px`;
  node.setDirtyCanvas(true, true);
}

/**
 * Zooms the canvas when the wheel turns over the view, as it does over the rest of the node.
 * @param {WheelEvent} event
 */
function zoomCanvas(event) {
  // Nodes 2.0 passes wheel events on by itself.
  if (/** @type {any} */ (globalThis).LiteGraph?.vueNodesMode) return;
  event.preventDefault();
  app.canvas.processMouseWheel(event);
}

/**
 * Shows what a node left when it ran: just now, from the server's cache, or from the history.
 * @param {any} node
 * @param {any} output
 */
function showOutput(node, output) {
  const run = output?.[OUTPUT]?.[0];
  if (node && run) views.get(node)?.show(run);
}

/**
 * Shows a run on its node, if the workflow in front is the one it was queued from.
 * @param {Run} run
 */
function show(run) {
  if (!app.rootGraph || (run.workflow && run.workflow !== app.rootGraph.id)) return;
  const node = nodeAt(app.rootGraph, run.node);
  if (node) views.get(node)?.show(run);
}

/** Asks the server for the trainings that this page has queued: it may have been reloaded. */
async function restore() {
  const client = encodeURIComponent(api.clientId ?? api.initialClientId ?? "");
  const answer = await api.fetchApi(`/eraseanything/live?client=${client}`);
  if (answer.ok) for (const run of await answer.json()) show(run);
}

/**
 * The node at a path such as "12:5": node 5 in the subgraph of node 12.
 * @param {any} graph
 * @param {string} path
 * @returns {any}
 */
function nodeAt(graph, path) {
  const [first, ...rest] = path.split(":");
  const node = graph?.getNodeById(first);
  return rest.length && node ? nodeAt(node.subgraph, rest.join(":")) : node;
}

/**
 * Whether a graph or a subgraph in it has a node of ours.
 * @param {any} graph
 * @returns {boolean}
 */
function someNode(graph) {
  return graph.nodes.some(
    (/** @type {any} */ node) => views.has(node) || (node.subgraph && someNode(node.subgraph)),
  );
}
