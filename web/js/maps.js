/** Maps on Attention Map Preview and Watched Attention: one widget each, fed by the node's output. */

import { MapsView } from "./maps_view.js";
import { addViews } from "./page.js";

const OUTPUT = "eraseanything_maps"; // the key of our part of a node's output

/** @param {any} output */
const pick = (output) => output?.[OUTPUT]?.[0];

addViews({
  name: "eraseanything.maps",
  styles: "maps.css",
  nodes: ["EraseAnythingAttention", "EraseAnythingWatched"],
  widget: "eraseanything_maps",
  create: (_, onHeight) => new MapsView(onHeight),
  pick,
});
