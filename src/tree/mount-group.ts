import type { TreeNode } from "./nodes.ts";

const S_ISGID = 0o2000;

/**
 * Permission bits and group of `node` where the volume is mounted for a group (CSI VOLUME_MOUNT_GROUP, a pod's
 * fsGroup), as the kubelet makes them on other file systems. An object that is not the group's yet shows as the
 * group's, which may do there what the owner may, and directories hand the group on. An object that was made or changed
 * under such a mount, and so is the group's, has the mode that a program gave it: databases refuse a directory, and ssh
 * a key, that their group can read.
 */
export function shownPermissions(
  node: TreeNode,
  mountGroup: number | undefined,
): { readonly mode: number; readonly gid: number } {
  const { mode, gid } = node;
  if (mountGroup === undefined || gid === mountGroup) return { mode, gid };
  const forGroup = mode | ((mode & 0o700) >> 3);
  return { mode: node.kind === "directory" ? forGroup | S_ISGID : forGroup, gid: mountGroup };
}
