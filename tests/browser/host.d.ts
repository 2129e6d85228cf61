/** What ComfyUI serves under /scripts, by the types that its frontend publishes. */

declare module "*/scripts/app.js" {
  export const app: import("@comfyorg/comfyui-frontend-types").ComfyApp;
}

/** A node with what the frontend adds to litegraph's own, which those types leave out. */
type ComfyNode = Parameters<
  NonNullable<import("@comfyorg/comfyui-frontend-types").ComfyExtension["nodeCreated"]>
>[0] & {
  addDOMWidget(
    name: string,
    type: string,
    element: HTMLElement,
    options: {
      serialize: boolean;
      hideOnZoom: boolean;
      margin: number;
      getMinHeight: () => number;
      getMaxHeight: () => number;
    },
  ): { serialize?: boolean };
  onExecuted?(output: unknown): void;
  subgraph?: any;
};

declare module "*/scripts/api.js" {
  export const api: import("@comfyorg/comfyui-frontend-types").ComfyApi;
}
