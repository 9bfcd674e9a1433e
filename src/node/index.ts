export type { DeviceOption } from "./devices.ts";
export * from "./node-plugin.ts";
