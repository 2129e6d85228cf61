/** Maps on Attention Map Preview and Watched Attention: one widget each, fed by the node's output. */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { MapsView } from "./maps_view.js";
import { addViews } from "./page.js";

const OUTPUT = "eraseanything_maps"; // the key of our part of a node's output
const RUNS_ASKED = 20; // of the history, when the page is new

/** @param {any} output */
const pick = (output) => output?.[OUTPUT]?.[0];

const showAt = addViews({
  name: "eraseanything.maps",
  styles: "maps.css",
  nodes: ["EraseAnythingAttention", "EraseAnythingWatched"],
  widget: "eraseanything_maps",
  create: (_, onHeight) => new MapsView(onHeight),
  pick,
  restore,
});

/** Looks for this workflow's last maps in the server's history: the page may have been reloaded. */
async function restore() {
  const graph = app.rootGraph;
  const answer = await api.fetchApi(`/history?max_items=${RUNS_ASKED}`);
  if (!answer.ok) return;
  for (const run of Object.values(await answer.json())) {
    const workflow = run.prompt?.[3]?.extra_pnginfo?.workflow;
    if (app.rootGraph !== graph || workflow?.id !== graph.id) continue;
    for (const [id, output] of Object.entries(run.outputs ?? {})) {
      showAt(id, pick(output)); // the oldest run comes first, the last one stays
    }
  }
}
