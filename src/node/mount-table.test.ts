import assert from "node:assert/strict";
import { test } from "node:test";
import { mountAt, parseMountTable, readMountTable } from "./mount-table.ts";

const TABLE = `27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
90 27 0:45 / /staging/a\\040b rw,nosuid,nodev shared:5 master:1 - fuse.famfs-csi famfs-csi:v1 rw,user_id=0
91 27 0:45 / /target ro,nosuid,nodev - fuse.famfs-csi famfs-csi:v1 rw,user_id=0
nonsense
92 91 0:46 /sub /target rw - tmpfs  rw
`;

test("the mount table is read with escapes, optional fields and empty sources; nonsense is left out", () => {
  const table = parseMountTable(TABLE);
  assert.equal(table.length, 4);
  const staged = mountAt(table, "/staging/a b");
  assert.equal(staged?.device, "0:45");
  assert.equal(staged?.type, "fuse.famfs-csi");
  assert.equal(staged?.source, "famfs-csi:v1");
  assert.ok(staged?.options.has("nodev") && !staged.options.has("ro"));
});

test("the topmost of stacked mounts is what is at a path", () => {
  const table = parseMountTable(TABLE);
  assert.equal(mountAt(table, "/target")?.type, "tmpfs");
  assert.equal(mountAt(table, "/target")?.root, "/sub");
  assert.equal(mountAt(table, "/staging"), undefined);
});

test("a mount below a directory that was mounted over is not there; one that comes after it is", () => {
  const table = parseMountTable(`27 1 254:0 / / rw - ext4 /dev/vda rw
50 27 0:40 / /dev rw - devtmpfs dev rw
51 50 0:45 / /dev/kubelet/target rw - fuse.famfs-csi famfs-csi:v1 rw
52 50 0:41 / /dev rw - devtmpfs again rw
53 52 0:45 / /dev/kubelet/other rw - fuse.famfs-csi famfs-csi:v1 rw
54 53 0:45 / /dev/kubelet/other ro - fuse.famfs-csi famfs-csi:v1 rw
`);
  assert.equal(mountAt(table, "/dev/kubelet/target"), undefined);
  assert.equal(mountAt(table, "/dev")?.source, "again");
  assert.ok(mountAt(table, "/dev/kubelet/other")?.options.has("ro"));
  assert.equal(table.length, 5, "both of the stack, and both of /dev");
});

test("this machine's own table has a root", async () => {
  assert.ok(mountAt(await readMountTable(), "/"));
});
