import assert from "node:assert/strict";
import { chmod, chown, mkdir, stat, writeFile } from "node:fs/promises";
import { release } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { skipWithoutMounts } from "../../test/support/kernel.ts";
import { firstMissing, missingAllUsers } from "../../test/support/prerequisites.ts";
import { run } from "./testing/probes.ts";
import { testCluster } from "./testing/test-node.ts";

/** FUSE 7.41: file systems that say so may be ID-mapped. */
function missingIdMappedFuse(): string | false {
  const [major = 0, minor = 0] = release().split(".").map(Number);
  return major > 6 || (major === 6 && minor >= 12)
    ? false
    : `Linux ${release()} maps no IDs of FUSE mounts (6.12 does)`;
}

const skip = firstMissing(skipWithoutMounts(), missingAllUsers(), missingIdMappedFuse());

/**
 * Mounts `source` at `target` as a container runtime does for a pod with hostUsers: false: its user 0 is 100000 of the
 * host. Then does `then` as the user and group that are given, in the host's numbers.
 */
const MAPPED = `
import ctypes, os, sys
source, target, user, group, then = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
def call(what, number, *args):
    result = libc.syscall(number, *args)
    if result < 0: raise OSError(ctypes.get_errno(), what)
    return result
ready, done = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    os.close(done[1]) # so that it ends with the other one, however that ends
    if libc.unshare(0x10000000) != 0: os._exit(1)
    os.write(ready[1], b"x"); os.read(done[0], 1); os._exit(0)
os.read(ready[0], 1)
for name in ("uid_map", "gid_map"):
    with open(f"/proc/{child}/{name}", "w") as map: map.write("0 100000 65536")
users = os.open(f"/proc/{child}/ns/user", os.O_RDONLY)
tree = call("open_tree", 428, -100, source.encode(), 1 | os.O_CLOEXEC)
class attributes(ctypes.Structure): _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]
mapped = attributes(0x100000, 0, 0, users)
call("mount_setattr", 442, tree, b"", 0x1000, ctypes.byref(mapped), ctypes.sizeof(mapped))
libc.unshare(0x20000)
call("mount", 165, b"none", b"/", None, 1 << 18 | 16384, None)
call("move_mount", 429, tree, b"", -100, target.encode(), 4)
os.write(done[1], b"x"); os.waitpid(child, 0)
os.chdir(target)
os.setgroups([]); os.setgid(int(group)); os.setuid(int(user))
exec(then)
`;

test("in a pod with a user namespace of its own, files belong to whom they should, inside and outside", {
  skip,
}, async (t) => {
  const cluster = await testCluster(t);
  await chmod(cluster.directory, 0o755);
  const a = await cluster.node("a");
  await cluster.volume("v1");
  await a.stage("v1");
  await a.publish("v1", "pod");
  const volume = a.target("pod");
  await chmod(volume, 0o777);
  const inside = join(cluster.directory, "inside");
  await mkdir(inside);
  const as = async (user: number, group: number, script: string) =>
    (await run("python3", ["-c", MAPPED, volume, inside, `${user}`, `${group}`, script])).stdout.trim();
  const owner = async (name: string) => {
    const { uid, gid } = await stat(join(volume, name));
    return [uid, gid];
  };

  // User 1000 of the pod: 101000 for the host, 1000 on the volume.
  const made = await as(
    101_000,
    102_000,
    `
open("file", "w").write("by the pod"); os.mkdir("directory"); os.symlink("file", "link")
print(os.stat("file").st_uid, os.stat("file").st_gid, os.lstat("link").st_uid)`,
  );
  assert.equal(made, "101000 102000 101000");
  for (const name of ["file", "directory", "link"]) assert.deepEqual(await owner(name), [1000, 2000], name);

  // Root of the pod gives away what is the pod's, in the pod's numbers.
  await as(0, 0, `os.chown("file", 100007, 100008)`);
  assert.deepEqual(await owner("file"), [7, 8]);
  await chown(join(volume, "file"), 1000, 2000);
  assert.equal(await as(101_000, 102_000, `print(os.stat("file").st_uid, open("file").read())`), "101000 by the pod");

  // A directory with set-group-id gives its group, whoever creates there.
  await mkdir(join(volume, "team"));
  await chown(join(volume, "team"), 0, 3000);
  await chmod(join(volume, "team"), 0o2777);
  await as(101_000, 102_000, `open("team/f", "w"); os.mkdir("team/d")`);
  assert.deepEqual(await owner("team/f"), [1000, 3000]);
  assert.deepEqual(await owner("team/d"), [1000, 3000]);

  // Modes count as those of the mapped users; changing bytes takes set-id bits.
  await writeFile(join(volume, "secret"), "of root", { mode: 0o600 });
  await assert.rejects(as(101_000, 102_000, `open("secret").read()`), /PermissionError/);
  assert.equal(await as(100_000, 100_000, `print(open("secret").read())`), "of root");
  const bits = `
os.chmod("file", 0o6777); os.rename("file", "renamed")
fd = os.open("renamed", os.O_WRONLY); os.write(fd, b"B")
print(oct(os.stat("renamed").st_mode & 0o7777))`;
  assert.equal(await as(101_000, 102_000, bits), "0o777");

  // A user of the host that the pod does not have is nobody there.
  await assert.rejects(as(5, 5, `open("nobody", "w")`), /OverflowError|Value too large|\[Errno 75\]/);
});
