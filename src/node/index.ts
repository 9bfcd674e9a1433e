export type { DeviceOption } from "./devices.ts";
export type * from "./fuse-server/figures.ts";
export { mountSource, unmountBelow } from "./mounts.ts";
export * from "./node-plugin.ts";
export { planRebuild, type RebuildPlan, rebuild } from "./rebuild.ts";
export { KubeletRegistration } from "./registration.ts";
