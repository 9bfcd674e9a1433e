export type { DeviceOption } from "./devices.ts";
export type * from "./fuse-server/figures.ts";
export { findFusermount } from "./fusermount.ts";
export { type LocalMount, mountLocally } from "./local-mount.ts";
export { mountSource, unmountBelow } from "./mounts.ts";
export * from "./node-plugin.ts";
export { KubeletRegistration } from "./registration.ts";
