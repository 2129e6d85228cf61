/** The live view on Erase Concept: one widget on each such node, fed by the server's events. */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { LiveView } from "./live_view.js";
import { addViews } from "./page.js";

/** @typedef {import("./live_view.js").Run} Run */

const EVENT = "eraseanything.step";
const OUTPUT = "eraseanything"; // the key of our part of a node's output

const showAt = addViews({
  name: "eraseanything.live",
  styles: "live.css",
  nodes: ["EraseAnythingTrain"],
  widget: "eraseanything_live",
  create: (_, onHeight) => new LiveView(onHeight),
  pick: (output) => output?.[OUTPUT]?.[0],
  restore,
});

api.addEventListener(/** @type {any} */ (EVENT), (event) => {
  show(/** @type {CustomEvent<Run>} */ (event).detail);
});

/**
 * Shows a run on its node, if the workflow in front is the one it was queued from.
 * @param {Run} run
 */
function show(run) {
  if (!app.rootGraph || (run.workflow && run.workflow !== app.rootGraph.id)) return;
  showAt(run.node, run);
}

/** Asks the server for the workflow's trainings: it may be opened anew, or on another device. */
async function restore() {
  const client = api.clientId ?? api.initialClientId ?? "";
  const asked = new URLSearchParams({ client, workflow: String(app.rootGraph?.id ?? "") });
  const answer = await api.fetchApi(`/eraseanything/live?${asked}`);
  if (answer.ok) for (const run of await answer.json()) show(run);
}
