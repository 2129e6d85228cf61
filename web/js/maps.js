/**
 * The maps on Attention Map Preview: one widget on each such node, fed by the node's output.
 *
 * Where the backend is absent no such node exists, so nothing here runs beyond its registration.
 */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { MapsView } from "./maps_view.js";
import { addStyles, attach, makeRoom, nodeAt, someNode } from "./page.js";

const NODE = "EraseAnythingAttention";
const OUTPUT = "eraseanything_maps"; // the key of our part of a node's output
const WIDGET = "eraseanything_maps"; // name and type: no other pack draws widgets of this type
const RUNS_ASKED = 20; // of the history, when the page is new

// By node, since a node has no id yet when it is created.
/** @type {WeakMap<object, MapsView>} */
const views = new WeakMap();

app.registerExtension({
  name: "eraseanything.maps",

  async init() {
    addStyles("maps.css");
  },

  nodeCreated(node) {
    if (node.comfyClass === NODE) addView(/** @type {ComfyNode} */ (node));
  },

  async afterConfigureGraph() {
    if (app.rootGraph && someNode(app.rootGraph, (node) => views.has(node))) await restore();
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
  const view = new MapsView(() => makeRoom(node, view));
  views.set(node, view);
  attach(node, view, WIDGET, (output) => showOutput(node, output));
}

/**
 * Shows what a node left when it ran: just now, from the server's cache, or from the history.
 * @param {any} node
 * @param {any} output
 */
function showOutput(node, output) {
  const maps = output?.[OUTPUT]?.[0];
  if (node && maps) views.get(node)?.show(maps);
}

/** Looks for this workflow's last maps in the server's history: the page may have been reloaded. */
async function restore() {
  const graph = app.rootGraph;
  const answer = await api.fetchApi(`/history?max_items=${RUNS_ASKED}`);
  if (!answer.ok) return;
  for (const run of Object.values(await answer.json())) {
    const workflow = run.prompt?.[3]?.extra_pnginfo?.workflow;
    if (app.rootGraph !== graph || workflow?.id !== graph.id) continue;
    for (const [id, output] of Object.entries(run.outputs ?? {})) {
      showOutput(nodeAt(graph, id), output); // the oldest run comes first, the last one stays
    }
  }
}
