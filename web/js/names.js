/** What our nodes are called and say of their inputs, in the language that ComfyUI's settings name. */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { language } from "./words.js";

export const CATEGORY = "EraseAnything"; // of all our nodes
const OURS = "en"; // the language that the server speaks

/** @type {Record<string, string>} by the label that the server gives an input */
const labels = {};

// The page translates nodes by itself. That of ComfyUI 0.3.75 loses what packs bring: its own words
// come later and take the place of all others.
app.registerExtension({
  name: "eraseanything.names",
  async addCustomNodeDefs(/** @type {Record<string, any>} */ nodes) {
    if (language() === OURS) return;
    const languages = await (await api.fetchApi("/i18n")).json();
    const words = languages[language()]?.nodeDefs ?? {};
    for (const [id, node] of Object.entries(nodes)) {
      if (node.category === CATEGORY && Object.hasOwn(words, id)) translate(node, words[id]);
    }
  },
});

/**
 * @param {any} node as the server describes it; is changed
 * @param {any} words of `locales/<language>/nodeDefs.json`
 */
function translate(node, words) {
  node.display_name = words.display_name;
  node.description = words.description ?? node.description;
  const inputs = { ...node.input.required, ...node.input.optional };
  for (const [id, { name, tooltip }] of Object.entries(words.inputs)) {
    const options = inputs[id][1];
    labels[options.display_name] = name;
    options.display_name = name;
    options.tooltip = tooltip ?? options.tooltip;
  }
}

/**
 * Names a subgraph's inputs as our nodes name theirs, which no page does; what a person has named
 * stays.
 * @param {any} node
 */
export function translateInputs({ subgraph, widgets }) {
  for (const input of subgraph.inputs) {
    if (Object.hasOwn(labels, input.label)) subgraph.renameInput(input, labels[input.label]);
  }
  for (const widget of widgets ?? []) widget.label = labels[widget.label] ?? widget.label;
}
