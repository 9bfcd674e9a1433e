/** What mounts a volume without a node plugin around it, and without what only that needs: gRPC, store, CSI. */
export { findFusermount } from "./fusermount.ts";
export { type LocalMount, localMountPoint, mountLocally } from "./local-mount.ts";
