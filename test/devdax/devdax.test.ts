/**
 * Two virtual machines share the memory of one file as two hosts share CXL memory: each sees a devdax device of its
 * own kernel. What runs in them is this checkout, on their own /dev/fuse. Times under emulation mean nothing.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { GIB } from "../../src/base/index.ts";
import { compileCheckout } from "../support/compiled.ts";
import { type Command, Guest, missingGuest } from "./support/guest.ts";
import { standalone, until } from "./support/standalone.ts";

const MEMORY_BYTES = 2 * GIB;
/** Of the namespace: its first alignment unit holds what the kernel knows it by. */
const DEVICE_BYTES = MEMORY_BYTES - 2 ** 21;
const DEVICE = "/dev/dax0.0";

describe("devdax", { skip: missingGuest(), timeout: 15 * 60_000 }, () => {
  let directory: string;
  let a: Guest;
  let b: Guest;

  before(async () => {
    // Not on a tmpfs: the file is as large as the machine's free memory on small ones, and mostly a hole.
    directory = mkdtempSync(join(process.env["TMPDIR"] ?? "/var/tmp", "devdax-"));
    try {
      const memory = { path: join(directory, "memory"), sizeBytes: MEMORY_BYTES };
      writeFileSync(memory.path, "");
      truncateSync(memory.path, memory.sizeBytes);
      const programs = join(directory, "programs");
      compileCheckout(programs);
      const boot = (name: string) => Guest.boot({ name, directory: join(directory, name), programs, memory });
      [a, b] = await bootBoth(boot("a"), boot("b"));
    } catch (error) {
      rmSync(directory, { recursive: true, force: true });
      throw error;
    }
  });

  after(async () => {
    await Promise.allSettled([a?.[Symbol.asyncDispose](), b?.[Symbol.asyncDispose]()]);
    rmSync(directory, { recursive: true, force: true });
  });

  const hashes = (guest: Guest, root: string) => guest.sh(`cd ${root} && find . -type f | sort | xargs sha256sum`);
  const volume = async (guest: Guest, what: "fsck" | "ls") =>
    JSON.parse(await guest.sh(guest.famfs(`--output json ${what} ${DEVICE}`))) as Record<string, unknown>;

  test("two hosts see one devdax device", async (t) => {
    t.diagnostic(`boot: ${Math.round(a.bootMs)} ms and ${Math.round(b.bootMs)} ms, side by side`);
    const [path] = [await a.devdax(), await b.devdax()];
    assert.equal(path, DEVICE);
    for (const guest of [a, b]) {
      const numbers = await guest.sh("cat /sys/bus/dax/devices/dax0.0/dev");
      assert.equal(await guest.sh(`cat /sys/dev/char/${numbers.trim()}/size`), `${DEVICE_BYTES}\n`);
    }
  });

  test("the device layer on a real device", async (t) => {
    const output = await a.sh(a.program("test/devdax/guest/device-check", DEVICE));
    t.diagnostic(output.trim());
    assert.partialDeepStrictEqual(JSON.parse(output), { sizeBytes: DEVICE_BYTES, alignBytes: 2 ** 21 });
  });

  test("mkfs makes a file system that fsck on the other host finds clean, and refuses a second one", async (t) => {
    const started = performance.now();
    await a.sh(a.famfs(`mkfs ${DEVICE}`));
    t.diagnostic(`mkfs: ${Math.round(performance.now() - started)} ms, most of it the start of Node`);
    const again = await a.try(a.famfs(`mkfs ${DEVICE}`));
    assert.equal(again.status, 73, again.stderr);
    assert.match(again.stderr, /holds the famfs volume/);
    await Promise.all([volume(a, "fsck"), volume(b, "fsck")]).then(same);
  });

  test("what one host writes, the other reads, before and after the writer is gone", async () => {
    await using writer = await mount(a, DEVICE, "/mnt/writer");
    await a.sh(`set -e; cd /mnt/writer; mkdir -p deep/er
      head -c 5000000 /dev/urandom >random; head -c 100 /dev/zero >small; cp random deep/er/copy; : >empty
      printf hello >renamed-later; mv renamed-later deep/name; chmod 640 small
      ${seal("/mnt/writer")}`);
    const written = await hashes(a, "/mnt/writer");

    const other = await a.try(a.famfs(`mkfs --force ${DEVICE}`));
    assert.equal(other.status, 75, other.stderr);
    assert.match(other.stderr, /in use by process \d+ \(/);
    // A container has device nodes of its own: the lock goes by the number.
    const [major, minor] = (await a.sh("cat /sys/bus/dax/devices/dax0.0/dev")).trim().split(":");
    await a.sh(`mknod /tmp/node c ${major} ${minor}`);
    assert.equal((await a.try(a.famfs("mkfs --force /tmp/node"))).status, 75);

    {
      await using _reader = await mount(b, `--read-only ${DEVICE}`, "/mnt/reader");
      assert.equal(await hashes(b, "/mnt/reader"), written);
      assert.equal(await b.sh("stat -c %a /mnt/reader/small"), "640\n");
      const refused = await b.try("touch /mnt/reader/new");
      assert.match(refused.stderr, /Read-only file system/);
    }
    await writer.unmount();
    await using _reader = await mount(b, `--read-only ${DEVICE}`, "/mnt/reader");
    assert.equal(await hashes(b, "/mnt/reader"), written);
  });

  test("ls and fsck on both hosts tell the same", async () => {
    const [fsck] = await Promise.all([volume(a, "fsck"), volume(b, "fsck")]).then(same);
    const [ls] = await Promise.all([volume(a, "ls"), volume(b, "ls")]).then(same);
    assert.deepEqual(fsck["findings"], []);
    const paths = (ls["entries"] as { path: string }[]).map(({ path }) => path);
    assert.deepEqual(paths, ["deep", "deep/er", "deep/er/copy", "deep/name", "empty", "random", "small"]);
  });

  test("the other host writes in its turn, in place and through mappings of the file too", async () => {
    let written: string;
    {
      await using _mounted = await mount(b, DEVICE, "/mnt/second");
      await b.sh(`set -e; cd /mnt/second; rm small; mv deep/name deep/moved; echo replaced >empty; cp random added
        printf edge | dd of=deep/er/copy conv=notrunc bs=1 seek=2097150 2>/dev/null
        python3 -c 'import mmap, os
f = os.open("random", os.O_RDWR)
m = mmap.mmap(f, 0)
m[2097150:2097154] = b"edge"
m.flush()'
        cmp random deep/er/copy; ${seal("/mnt/second")}`);
      written = await hashes(b, "/mnt/second");
    }
    await using _reader = await mount(a, `--read-only ${DEVICE}`, "/mnt/reader");
    assert.equal(await hashes(a, "/mnt/reader"), written);
    const content = "cd /mnt/reader; find . -type f | sort; cat empty deep/moved; tail -c +2097151 random | head -c 4";
    assert.equal(await a.sh(content), "./added\n./deep/er/copy\n./deep/moved\n./empty\n./random\nreplaced\nhelloedge");
  });

  test("a writer that dies with its host leaves a file system that the other mounts", async () => {
    const dying = await mount(a, DEVICE, "/mnt/writer");
    await a.sh(`cd /mnt/writer && seq 100000 >kept && ${seal("/mnt/writer")}`);
    const kept = await a.sh("sha256sum </mnt/writer/kept");
    dying.command.kill("KILL");
    await dying.command.ended;
    await a.sh("umount -l /mnt/writer");
    {
      await using _mounted = await mount(b, DEVICE, "/mnt/second");
      assert.equal(await b.sh("sha256sum </mnt/second/kept"), kept);
      await b.sh("echo on >/mnt/second/goes");
    }
    assert.deepEqual((await volume(a, "fsck"))["findings"], []);
  });

  test("a labelled device is one pool for both hosts", async () => {
    await a.sh(a.famfs(`device init --force --pool shared ${DEVICE}`));
    const scan = async (guest: Guest) => JSON.parse(await guest.sh(guest.famfs("--output json device scan")));
    const [seen] = await Promise.all([scan(a), scan(b)]).then(same);
    assert.match(JSON.stringify(seen), /"pool":"shared"/);
  });

  test("CSI on a real device: a claim is made, filled, read again and deleted", async (t) => {
    await using plugin = await standalone(a, `--pool shared --device ${DEVICE}`, t);
    const capability = { mount: { fsType: "famfs" }, accessType: "mount", accessMode: { mode: "SINGLE_NODE_WRITER" } };
    const { volume: made } = await plugin.call("controller", "CreateVolume", {
      name: "claim",
      capacityRange: { requiredBytes: String(256 * 2 ** 20) },
      volumeCapabilities: [capability],
    });
    const volumeId = made?.volumeId ?? "";
    const { publishContext } = await plugin.call("controller", "ControllerPublishVolume", {
      volumeId,
      nodeId: "a",
      volumeCapability: capability,
    });
    const staged = { volumeId, publishContext, stagingTargetPath: "/mnt/staging", volumeCapability: capability };
    await a.sh("mkdir -p /mnt/staging");
    await plugin.call("node", "NodeStageVolume", staged);
    await plugin.call("node", "NodePublishVolume", { ...staged, targetPath: "/mnt/target" });
    await a.sh("seq 100000 >/mnt/target/file && sync");
    assert.equal(await a.sh("sha256sum </mnt/staging/file"), await a.sh("seq 100000 | sha256sum"));
    assert.match(await a.sh(a.famfs("device scan")), /claim|256 MiB/);
    await plugin.call("node", "NodeUnpublishVolume", { volumeId, targetPath: "/mnt/target" });
    await plugin.call("node", "NodeUnstageVolume", { volumeId, stagingTargetPath: "/mnt/staging" });
    await plugin.call("controller", "ControllerUnpublishVolume", { volumeId, nodeId: "a" });
    await plugin.call("controller", "DeleteVolume", { volumeId });
    await plugin.stop();
  });
});

/** A shell command: what is closed there is in the log when it ends, not a second later. */
const seal = (directory: string) => `python3 -c 'import os; os.fsync(os.open("${directory}", os.O_RDONLY))'`;

function same<T>([a, b]: [T, T]): [T, T] {
  assert.deepEqual(a, b);
  return [a, b];
}

/** Both, or none left running. */
async function bootBoth(...boots: readonly [Promise<Guest>, Promise<Guest>]): Promise<[Guest, Guest]> {
  const [a, b] = await Promise.allSettled(boots);
  if (a.status === "fulfilled" && b.status === "fulfilled") return [a.value, b.value];
  for (const one of [a, b]) if (one.status === "fulfilled") await one.value[Symbol.asyncDispose]();
  throw a.status === "rejected" ? a.reason : b.status === "rejected" ? b.reason : undefined;
}

interface Mounted extends AsyncDisposable {
  readonly command: Command;
  unmount(): Promise<void>;
}

/** `famfs-csi mount` in the guest. */
async function mount(guest: Guest, what: string, directory: string): Promise<Mounted> {
  await guest.sh(`mkdir -p ${directory}`);
  const command = guest.start(`exec env ${guest.famfs(`mount ${what} ${directory}`)}`);
  await until(command, async () => (await guest.try(`mountpoint -q ${directory}`)).status === 0);
  let unmounted: Promise<void> | undefined;
  const unmount = () => {
    unmounted ??= (async () => {
      command.kill("TERM");
      const { status, stderr } = await command.ended;
      assert.equal(status, 0, stderr);
    })();
    return unmounted;
  };
  return { command, unmount, [Symbol.asyncDispose]: unmount };
}
