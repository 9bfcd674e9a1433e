import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { lookup } from "node:dns/promises";
import { once } from "node:events";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { skipWithoutMounts } from "../test/support/kernel.ts";
import { FUSE_TYPE, fuseMountArguments, MOUNT_ATTR, MS, native, UMOUNT } from "./index.ts";

const skip = skipWithoutMounts();

/** A directory that is removed, with whatever is still mounted below it, when the test ends. */
function scratch(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "famfs-system-"));
  t.after(() => {
    const below = mounts().filter((line) => line.includes(` ${directory}`));
    for (const line of below.reverse()) spawnSync("umount", ["-l", line.split(" ")[4] ?? ""]);
    rmSync(directory, { recursive: true });
  });
  return directory;
}

/** Where nobody reaps orphans, a killed one stays a zombie. */
function isZombie(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ");
  } catch {
    return false;
  }
}

function directoryIn(parent: string, name: string): string {
  const path = join(parent, name);
  mkdirSync(path);
  return path;
}

function mounts(): string[] {
  return readFileSync("/proc/self/mountinfo", "utf8").split("\n");
}

function mountAt(target: string): string | undefined {
  return mounts().findLast((line) => line.split(" ")[4] === target);
}

test("a FUSE connection is mounted with our type, source and safe options, and unmounted", { skip }, async (t) => {
  const target = directoryIn(scratch(t), "m");
  const fd = native.openFuse();
  t.after(() => closeSync(fd));
  await native.mount(...fuseMountArguments(fd, target, { fsname: "famfs-csi:v1", maxRead: 65536 }));
  const line = mountAt(target) ?? "";
  assert.match(line, / rw,nosuid,nodev[, ]/);
  assert.match(line, new RegExp(` - ${FUSE_TYPE} famfs-csi:v1 rw,.*default_permissions,allow_other,max_read=65536`));
  await native.unmount(target, UMOUNT.NOFOLLOW);
  assert.equal(mountAt(target), undefined);
});

test("a mount that fails names its errno", { skip }, async (t) => {
  const target = join(scratch(t), "missing");
  const fd = native.openFuse();
  t.after(() => closeSync(fd));
  await assert.rejects(native.mount(...fuseMountArguments(fd, target, { fsname: "x" })), {
    code: "ENOENT",
    syscall: "mount",
  });
  await assert.rejects(native.mount(...fuseMountArguments(99999, tmpdir(), { fsname: "x" })), { code: "EINVAL" });
  await assert.rejects(native.unmount(target, 0), { code: "ENOENT", syscall: "umount2" });
  await assert.rejects(native.unmount(tmpdir(), 0), { code: "EINVAL" });
});

test("statfs on a connection nobody serves waits without holding anything else up, until it is aborted", {
  skip,
}, async (t) => {
  const target = directoryIn(scratch(t), "m");
  const fd = native.openFuse();
  await native.mount(...fuseMountArguments(fd, target, { fsname: "x" }));
  const hung = Array.from({ length: 8 }, () => native.statfs(target));
  const failed = Promise.all(hung.map((call) => assert.rejects(call, { code: "ENOTCONN", syscall: "statfs" })));
  assert.equal(await Promise.race([failed, delay(50, "still waiting")]), "still waiting");
  assert.ok((await native.statfs("/")).blocks > 0, "other calls go on");
  // Four calls that hang on libuv's pool would stop these two for everybody.
  assert.ok((await readFile("/proc/self/stat")).byteLength > 0, "file I/O");
  assert.ok((await lookup("localhost")).address, "names of hosts");
  closeSync(fd); // the last descriptor of a connection: the kernel aborts it
  await failed;
});

/** Until a thread of this process sleeps in a system call: before that an unmount would come first. */
async function someThreadWaitsFor(name: "statfs"): Promise<void> {
  const numbers = { statfs: { x64: 137, arm64: 43 } }[name];
  const number = `${numbers[process.arch as keyof typeof numbers]} `;
  const waits = (thread: string) => {
    try {
      return readFileSync(`/proc/self/task/${thread}/syscall`, "latin1").startsWith(number);
    } catch {
      return false; // ended meanwhile
    }
  };
  for (let attempt = 0; attempt < 1000; attempt++) {
    if (readdirSync("/proc/self/task").some(waits)) return;
    await delay(5);
  }
  assert.fail(`no thread waits in ${name}`);
}

test("forced unmount aborts a connection that is in use", { skip }, async (t) => {
  const target = directoryIn(scratch(t), "m");
  const fd = native.openFuse();
  await native.mount(...fuseMountArguments(fd, target, { fsname: "x" }));
  const failed = assert.rejects(native.statfs(target), { code: "ENOTCONN" });
  await someThreadWaitsFor("statfs");
  try {
    await native.unmount(target, UMOUNT.FORCE | UMOUNT.DETACH);
    await failed;
  } catch (error) {
    assert.equal((error as { code: string }).code, "EPERM"); // in a user namespace only the descriptor aborts
    await native.unmount(target, UMOUNT.DETACH);
  } finally {
    closeSync(fd);
  }
  await failed;
});

test("a read-only bind mount refuses writes from its first moment and leaves the source writable", {
  skip,
}, async (t) => {
  const base = scratch(t);
  const source = directoryIn(base, "source");
  const target = directoryIn(base, "target");
  await native.mount("none", source, "tmpfs", "size=1m", MS.NOSUID | MS.NODEV);
  await native.bindMount(source, target, MOUNT_ATTR.RDONLY);
  assert.throws(() => writeFileSync(join(target, "f"), "x"), { code: "EROFS" });
  writeFileSync(join(source, "f"), "x");
  assert.equal(readFileSync(join(target, "f"), "utf8"), "x");
  assert.match(mountAt(target) ?? "", / ro,nosuid,nodev/);
  assert.match(mountAt(source) ?? "", / rw,nosuid,nodev/);
  await native.unmount(target, UMOUNT.NOFOLLOW);
  await native.bindMount(source, target, MOUNT_ATTR.NOEXEC | MOUNT_ATTR.NOATIME | MOUNT_ATTR.NODIRATIME);
  writeFileSync(join(target, "g"), "x");
  assert.match(mountAt(target) ?? "", / rw,nosuid,nodev,noexec,noatime,nodiratime/);
});

test("a read-only bind mount is read-only in a peer mount namespace too", { skip }, async (t) => {
  const base = scratch(t);
  await native.mount("none", base, "tmpfs", "size=1m", 0);
  execFileSync("mount", ["--make-shared", base]);
  mkdirSync(join(base, "source"));
  mkdirSync(join(base, "target"));
  const script = `
    import { native, MOUNT_ATTR } from ${JSON.stringify(join(import.meta.dirname, "index.ts"))};
    await native.bindMount(${JSON.stringify(join(base, "source"))}, ${JSON.stringify(join(base, "target"))}, MOUNT_ATTR.RDONLY);`;
  const inner = ["-m", "--propagation", "unchanged", process.execPath, "--input-type=module", "-e", script];
  execFileSync("unshare", inner, { stdio: "inherit" });
  assert.match(mountAt(join(base, "target")) ?? "", / ro,/);
  assert.throws(() => writeFileSync(join(base, "target", "f"), "x"), { code: "EROFS" });
});

test("a bind mount never follows a symlink at its target, and files can be bound", { skip }, async (t) => {
  const base = scratch(t);
  const source = directoryIn(base, "source");
  symlinkSync("/etc", join(base, "link"));
  await assert.rejects(native.bindMount(source, join(base, "link"), 0), { syscall: "move_mount" });
  await assert.rejects(native.bindMount(join(base, "missing"), source, 0), { code: "ENOENT", syscall: "open_tree" });
  writeFileSync(join(base, "file"), "1");
  await assert.rejects(native.bindMount(source, join(base, "file"), 0), { syscall: "move_mount" });
});

test("lstat and realpath report what is at a path, without and with following it", async (t) => {
  const base = mkdtempSync(join(tmpdir(), "famfs-system-"));
  t.after(() => rmSync(base, { recursive: true }));
  symlinkSync("/etc", join(base, "link"));
  assert.equal((await native.lstat(join(base, "link"))).mode & 0o170000, 0o120000);
  assert.equal((await native.lstat(base)).mode & 0o170000, 0o040000);
  assert.equal(await native.realpath(`${base}/link/../etc`), "/etc");
  await assert.rejects(native.realpath(join(base, "missing")), { code: "ENOENT", syscall: "realpath" });
  await assert.rejects(native.lstat(join(base, "missing")), { code: "ENOENT", syscall: "lstat" });
  assert.throws(() => native.lstat(1 as unknown as string), TypeError);
});

test("a descriptor travels over a socket pair with its tag", (t) => {
  const [here, there] = native.socketPair();
  t.after(() => closeSync(there));
  const path = join(import.meta.dirname, "system.c");
  const sent = openSync(path, "r");
  native.sendDescriptor(here, sent, 4_000_000_000);
  closeSync(sent);
  const { descriptor, tag } = native.receiveDescriptor(there);
  assert.equal(tag, 4_000_000_000);
  assert.equal(readFileSync(descriptor, "utf8"), readFileSync(path, "utf8"));
  closeSync(descriptor);
  assert.throws(() => native.receiveDescriptor(there), { code: "EAGAIN" });
  assert.throws(() => native.sendDescriptor(here, 99999, 1), { code: "EBADF" });
  closeSync(here);
  assert.throws(() => native.receiveDescriptor(there), { code: "ECONNRESET" });
  assert.throws(() => native.sendDescriptor(there, 0, 1), { code: "EPIPE" });
});

test("a process that asked for it dies soon after its parent, even when it is busy", async () => {
  const index = JSON.stringify(join(import.meta.dirname, "index.ts"));
  const inner = `
    import { native } from ${index};
    if (!native.dieWithParent(process.ppid, 1)) process.exit(3);
    console.log(process.pid);
    for (;;);`;
  const outer = `
    import { spawn } from "node:child_process";
    const child = spawn(process.execPath, ["--input-type=module", "-e", ${JSON.stringify(inner)}], { stdio: ["ignore", "inherit", "inherit"] });
    setInterval(() => {}, 1000);`;
  const parent = spawn(process.execPath, ["--input-type=module", "-e", outer], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = (await once(parent.stdout, "data")) as [Buffer];
  const pid = Number(line.toString());
  parent.kill("SIGKILL");
  await once(parent, "exit");
  for (let i = 0; i < 100 && existsSync(`/proc/${pid}`) && !isZombie(pid); i++) await delay(20);
  assert.ok(!existsSync(`/proc/${pid}`) || isZombie(pid));
  assert.equal(native.dieWithParent(1_000_000, 0), false);
});
