/** New LoRAs stand in our nodes' lists of files as soon as they are saved. */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { allNodes, nodeAt } from "./page.js";

const SAVES = ["EraseAnythingTrain", "EraseAnythingMerge"];
const LISTS = ["EraseAnythingApply", "EraseAnythingMerge"];

// After the event: the host sends it to all who listen, and waits for none.
api.addEventListener(/** @type {any} */ ("executed"), (event) => {
  const { node } = /** @type {CustomEvent<{node: string}>} */ (/** @type {unknown} */ (event)).detail;
  if (SAVES.includes(nodeAt(app.rootGraph, String(node))?.type)) refresh();
});
// A training that is cancelled or fails leaves a file too.
for (const end of ["execution_interrupted", "execution_error"])
  api.addEventListener(/** @type {any} */ (end), refresh);

/** Asks the server for the lists, and puts them into nodes that are there and that will be. */
async function refresh() {
  for (const kind of LISTS) {
    const answer = await api.fetchApi(`/object_info/${kind}`);
    if (answer.ok) renew(kind, (await answer.json())[kind].input);
  }
}

/**
 * @param {string} kind
 * @param {any} input the schema's inputs, as the server has them now
 */
function renew(kind, input) {
  const { nodeData } = /** @type {any} */ (globalThis).LiteGraph.registered_node_types[kind];
  const now = { ...input.required, ...input.optional };
  const known = { ...nodeData.input.required, ...nodeData.input.optional };
  for (const [name, [type, { options }]] of Object.entries(now)) {
    if (type !== "COMBO") continue;
    known[name][1].options.splice(0, Infinity, ...options);
    for (const node of allNodes(app.rootGraph).filter((each) => each.type === kind)) {
      const widget = node.widgets.find((/** @type {any} */ each) => each.name === name);
      if (widget) widget.options.values = [...options];
    }
  }
}
