export { Controller, type ControllerOptions } from "./controller.ts";
export { volumeIdFor } from "./volume-id.ts";
