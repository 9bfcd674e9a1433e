export type { DeviceOption } from "./devices.ts";
export { mountSource, mountVolume, resolveMountPath, unmountAll, unmountBelow } from "./mounts.ts";
export * from "./node-plugin.ts";
