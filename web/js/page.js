/** What our views share: elements, and how a view stands on a node of ComfyUI's page. */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

/**
 * A view that shows what its node left when it ran, or what else it is given.
 * @typedef {View & {show(given: any): void}} Shown
 */

const MARGIN = 8; // pixels around a view in the classic canvas
const LINE = 24; // pixels, at the least, that are given back: a text that wraps moves no edge
const RUNS_ASKED = 20; // of the history, when the page is new
/** @type {Promise<Record<string, any>> | undefined} */
let asked; // the history, until it has come: all kinds of views look into one answer

/** Something to be shown on a node: what stands in its `body` decides its height. */
export class View {
  /**
   * @param {string} className
   * @param {string} label what it is called where it is read aloud
   * @param {() => void} onHeight called when `height` has changed
   */
  constructor(className, label, onHeight) {
    this.onHeight = onHeight;
    this.height = 0;
    this.nodeHeight = 0; // of its node, where nobody has made it taller
    this.element = make("section", className);
    this.element.setAttribute("aria-label", label);
    this.body = make("div", "body");
    this.element.append(this.body);
    this.resized = new ResizeObserver(() => this.measure());
    this.resized.observe(this.body);
  }

  /** Ends what would outlive the node. */
  close() {
    this.resized.disconnect();
  }

  /**
   * Puts style sheets into the view, in their order. The page's head is not ours.
   * @param {string[]} names of files beside the scripts' folder
   */
  wear(names) {
    const sheets = names.map((name) => {
      const sheet = document.createElement("link");
      sheet.rel = "stylesheet";
      sheet.href = new URL(`../${name}`, import.meta.url).href;
      sheet.onload = () => this.measure();
      sheet.onerror = () => {
        sheet.remove();
        this.measure();
      };
      return sheet;
    });
    this.element.prepend(...sheets);
  }

  /**
   * The body's height as it is laid out, whatever the canvas's zoom. Before its style sheets are
   * there it would be taller: nodes would jump.
   */
  measure() {
    const height = this.body.offsetHeight;
    const bare = [...this.element.querySelectorAll("link")].some(({ sheet }) => !sheet);
    if (bare || !height || height === this.height) return;
    this.height = height;
    this.onHeight();
  }
}

/**
 * Puts views on nodes, and shows on them what the nodes leave: just now, or from the server's cache.
 *
 * A subgraph with such a node in it gets a view as well: nobody has to open it to see how it went.
 * Where the backend is absent no such node exists, so nothing here runs beyond its registration.
 * @param {object} options
 * @param {string} options.name of the extension
 * @param {string} options.styles a style sheet beside the scripts' folder
 * @param {string[]} options.nodes classes of nodes that get a view
 * @param {string} options.widget name and type of the widget: one that no other pack draws
 * @param {(node: ComfyNode, onHeight: () => void) => Shown} options.create for a node or a subgraph
 * @param {(output: any) => any} options.pick our part of a node's output, if it has one
 * @param {() => Promise<void>} [options.restore] shows what was there before the page was reloaded,
 *   where that is not the workflow's last outputs
 * @returns {(path: string, given: any) => void} shows something on the node at a path, and around it
 */
export function addViews({ name, styles, nodes, widget, create, pick, restore }) {
  // By node, since a node has no id yet when it is created.
  /** @type {WeakMap<object, Shown>} */
  const views = new WeakMap();
  const showOn = (/** @type {any} */ node, /** @type {any} */ given) => {
    if (node && given) views.get(node)?.show(given);
  };
  const showAround = (/** @type {string} */ path, /** @type {any} */ given) => {
    if (!nodes.includes(nodeAt(app.rootGraph, path)?.comfyClass)) return; // another pack's output
    for (const each of pathsAround(path)) showOn(nodeAt(app.rootGraph, each), given);
  };
  const show = (/** @type {string} */ path, /** @type {any} */ given) => {
    showOn(nodeAt(app.rootGraph, path), given);
    showAround(path, given);
  };
  app.registerExtension({
    name,
    nodeCreated(created) {
      const node = /** @type {ComfyNode} */ (created);
      const shown = node.subgraph ? allNodes(node.subgraph) : [node];
      if (!shown.some(({ comfyClass }) => nodes.includes(comfyClass ?? ""))) return;
      const view = create(node, () => makeRoom(node, view));
      view.element.classList.add("eraseanything-view");
      view.wear(["page.css", styles]);
      views.set(node, view);
      const put = () => attach(node, view, widget, (output) => showOn(node, pick(output)));
      if (node.subgraph) setTimeout(put); // under its own boxes, which it does not have yet
      else put();
    },
    async afterConfigureGraph() {
      if (!app.rootGraph || !allNodes(app.rootGraph).some((node) => views.has(node))) return;
      if (restore) await restore();
      else await lastOutputs((path, output) => show(path, pick(output)));
    },
    onNodeOutputsUpdated(/** @type {Record<string, any>} */ outputs) {
      for (const [path, output] of Object.entries(outputs)) show(path, pick(output));
    },
  });
  // Of a node in a subgraph, the page tells that node alone.
  api.addEventListener("executed", ({ detail }) => showAround(detail.node, pick(detail.output)));
  return show;
}

/**
 * Looks for this workflow's last outputs in the server's history: the page may have been reloaded.
 * @param {(path: string, output: any) => void} show gets the oldest run's first: the last one stays
 */
async function lastOutputs(show) {
  const graph = app.rootGraph;
  asked ??= api
    .fetchApi(`/history?max_items=${RUNS_ASKED}`)
    .then((answer) => (answer.ok ? answer.json() : {}))
    .finally(() => (asked = undefined));
  for (const run of Object.values(await asked)) {
    const workflow = run.prompt?.[3]?.extra_pnginfo?.workflow;
    if (app.rootGraph !== graph || workflow?.id !== graph.id) continue;
    for (const [path, output] of Object.entries(run.outputs ?? {})) show(path, output);
  }
}

/**
 * Puts a view on a node; `output` is called with each output that the node gets.
 * @param {ComfyNode} node
 * @param {View} view
 * @param {string} type name and type of the widget: one that no other pack draws
 * @param {(output: any) => void} output
 */
function attach(node, view, type, output) {
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
  if (node.subgraph) keepOn(node, widget);
}

/**
 * Puts a widget back on a subgraph: older pages make its widgets anew with each that is promoted.
 * @param {ComfyNode} node
 * @param {any} widget
 */
function keepOn(node, widget) {
  const { onDrawForeground } = node;
  node.onDrawForeground = function (...given) {
    if (!this.widgets?.includes(widget)) this.addCustomWidget(widget);
    onDrawForeground?.apply(this, given);
  };
}

/**
 * Lets a node grow where its view has become taller. One that is no taller than it had to be gives
 * the room back where the view is lower now; the page makes nodes taller only.
 * @param {ComfyNode} node
 * @param {View} view
 */
function makeRoom(node, view) {
  view.element.style.minHeight = `${view.height}px`;
  const least = node.computeSize()[1];
  const [width, height] = node.size;
  const untouched = height <= view.nodeHeight + 1;
  if (untouched && height - least > LINE) node.setSize([width, least]);
  view.nodeHeight = untouched ? Math.max(least, node.size[1]) : least;
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
 * The paths of the subgraphs around a node: "12" and "12:5" around "12:5:7".
 * @param {string} path
 * @returns {string[]}
 */
function pathsAround(path) {
  const ids = path.split(":");
  return ids.slice(1).map((_, index) => ids.slice(0, index + 1).join(":"));
}

/**
 * The nodes of a graph and of the subgraphs in it.
 * @param {any} graph
 * @returns {any[]}
 */
export function allNodes(graph) {
  return graph.nodes.flatMap((/** @type {any} */ node) => [
    node,
    ...(node.subgraph ? allNodes(node.subgraph) : []),
  ]);
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
