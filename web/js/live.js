/**
 * The live view on Erase Concept: one widget on each such node, fed by the server's events.
 *
 * Where the backend is absent no such node exists, so nothing here runs beyond its registration.
 */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { LiveView } from "./live_view.js";
import { addStyles, attach, makeRoom, nodeAt, someNode } from "./page.js";

/** @typedef {import("./live_view.js").Run} Run */

const NODE = "EraseAnythingTrain";
const EVENT = "eraseanything.step";
const OUTPUT = "eraseanything"; // the key of our part of a node's output
const WIDGET = "eraseanything_live"; // name and type: no other pack draws widgets of this type

// By node, since a node has no id yet when it is created.
/** @type {WeakMap<object, LiveView>} */
const views = new WeakMap();

app.registerExtension({
  name: "eraseanything.live",

  async init() {
    addStyles("live.css");
    api.addEventListener(/** @type {any} */ (EVENT), (event) => {
      show(/** @type {CustomEvent<Run>} */ (event).detail);
    });
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
  const view = new LiveView(() => makeRoom(node, view));
  views.set(node, view);
  attach(node, view, WIDGET, (output) => showOutput(node, output));
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
