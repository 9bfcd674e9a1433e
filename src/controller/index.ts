export { Controller, type ControllerOptions } from "./controller.ts";
export { type PoolFigures, StoreCensus, type StoreFigures } from "./figures.ts";
export { volumeIdFor } from "./volume-id.ts";
