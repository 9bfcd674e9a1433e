/** Ends of what a volume can do, through a real mount: each gives a clear error and leaves a working process. */
import assert from "node:assert/strict";
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { skipWithoutMounts } from "../support/kernel.ts";
import { mountDevice, runProgram, simulatedDevice } from "../support/program.ts";

const MIB = 2 ** 20;
const LOG_ENTRIES = 15_420;
/** Of them, for removing and renaming when the others are used up. */
const KEPT_ENTRIES = 60;
const skip = skipWithoutMounts();

function syncDirectory(path: string): void {
  const directory = openSync(path, "r");
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

/** Runs `step` until it throws; the error's code and how often it went well. */
function untilRefused(limit: number, step: (i: number) => void): { code: unknown; done: number } {
  for (let i = 0; i < limit; i++) {
    try {
      step(i);
    } catch (error) {
      return { code: error instanceof Error && "code" in error ? error.code : error, done: i };
    }
  }
  assert.fail(`not refused in ${limit} steps`);
}

test("a full volume says ENOSPC, keeps what it has, and takes more once something is removed", { skip }, async () => {
  using device = simulatedDevice("128Mi");
  await using mounted = await mountDevice(device.url);
  const at = (name: string) => join(mounted.directory, name);
  const block = Buffer.alloc(8 * MIB, 7);
  const { code, done } = untilRefused(32, (i) => writeFileSync(at(`f${i}`), block));
  assert.equal(code, "ENOSPC");
  assert.ok(done >= 10, `${done} files of 8 MiB fitted into 128 MiB`);
  rmSync(at(`f${done}`), { force: true });
  for (let i = 0; i < done; i++) assert.ok(readFileSync(at(`f${i}`)).equals(block), `f${i}`);
  assert.ok(statfsSync(mounted.directory).bavail * statfsSync(mounted.directory).bsize < 8 * MIB);

  syncDirectory(mounted.directory);
  rmSync(at("f0"));
  rmSync(at("f1"));
  // Space of a sealed file comes back when the removal is in the log and nobody holds it.
  for (let tries = 0; ; tries++) {
    try {
      writeFileSync(at("again"), block);
      break;
    } catch (error) {
      rmSync(at("again"), { force: true });
      if (tries === 300) throw error;
      await setTimeout(100);
    }
  }
  assert.ok(readFileSync(at("again")).equals(block));
});

test("a write that does not fit into the volume says ENOSPC to write(2), not only to close(2)", { skip }, async () => {
  using device = simulatedDevice("128Mi");
  await using mounted = await mountDevice(device.url);
  const file = openSync(join(mounted.directory, "f"), "w");
  const block = Buffer.alloc(MIB, 1);
  const { code } = untilRefused(200, () => writeSync(file, block));
  assert.equal(code, "ENOSPC");
  closeSync(file);
  rmSync(join(mounted.directory, "f"));
  writeFileSync(join(mounted.directory, "small"), "fits");
});

test("a full log says ENOSPC to whatever is new, removing and renaming go on, and reading does", { skip }, async () => {
  using device = simulatedDevice("4Gi");
  {
    await using mounted = await mountDevice(device.url);
    const at = (name: string) => join(mounted.directory, name);
    writeFileSync(at("kept"), "kept");
    // Unsealed files reserve more of the log than it takes in the end.
    let done = 0;
    for (let round = -1; round !== done; ) {
      round = done;
      const refused = untilRefused(LOG_ENTRIES + 100, () => mkdirSync(at(`d${done++}`)));
      assert.equal(refused.code, "ENOSPC");
      done--;
      syncDirectory(mounted.directory);
    }
    assert.ok(done > LOG_ENTRIES - 200, `${done} directories`);
    assert.throws(() => writeFileSync(at("one-more"), "x"), { code: "ENOSPC" });
    assert.equal(readFileSync(at("kept"), "utf8"), "kept");
    assert.ok(readdirSync(mounted.directory).length >= done);
    assert.equal(statfsSync(mounted.directory).ffree, 0);
    renameSync(at("d0"), at("moved"));
    for (let i = 1; i < KEPT_ENTRIES / 2; i++) rmdirSync(at(`d${i}`));
    assert.throws(() => writeFileSync(at("one-more"), "x"), { code: "ENOSPC" });
  }
  const fsck = await runProgram("fsck", device.url);
  assert.equal(fsck.status, 0, fsck.stdout + fsck.stderr);
  await using again = await mountDevice(device.url);
  assert.equal(readFileSync(join(again.directory, "kept"), "utf8"), "kept");
  assert.ok(readdirSync(again.directory).length > LOG_ENTRIES - 200);
  assert.ok(existsSync(join(again.directory, "moved")) && !existsSync(join(again.directory, "d1")));
  rmSync(join(again.directory, "kept"));
});

test("a corrupt superblock is refused with one sentence that names it", { skip }, async () => {
  using device = simulatedDevice("4Gi");
  await (await mountDevice(device.url)).unmount();
  const file = openSync(device.path, "r+");
  writeSync(file, Buffer.from([0xff]), 0, 1, 40);
  closeSync(file);
  await assert.rejects(mountDevice(device.url), /superblock/i);
  const fsck = await runProgram("fsck", device.url);
  assert.notEqual(fsck.status, 0);
  assert.match(fsck.stdout + fsck.stderr, /superblock/i);
});

test("a missing device is refused with its name", { skip }, async () => {
  const { status, stderr } = await runProgram("fsck", "/dev/dax99.7");
  assert.equal(status, 66, stderr);
  assert.match(stderr, /\/dev\/dax99\.7/);
  await assert.rejects(mountDevice("/dev/dax99.7"), /\/dev\/dax99\.7/);
  assert.ok(!existsSync("/dev/dax99.7"));
});

test("a wrong parameter is refused by its name, and nothing is written", async () => {
  using device = simulatedDevice("64Mi");
  const wrong: readonly [string[], RegExp][] = [
    [["mkfs", "--loglen", "3Mi", device.url], /loglen|log.*power of two/i],
    [["mkfs", "--mode", "9", device.url], /mode/],
    [["mkfs", "--frobnicate", device.url], /--frobnicate/],
    [["mkfs", `file://${device.path}?size=lots`], /lots/],
    [["mount", device.url, "/does/not/exist"], /\/does\/not\/exist/],
    [["standalone", "--endpoint=unix:///tmp/x", "--device", device.url], /--state-dir/],
  ];
  const check = async ([args, said]: (typeof wrong)[number]) => {
    const { status, stderr } = await runProgram(...args);
    assert.ok(status === 64 || status === 66, `${args.join(" ")}: ${status}`);
    assert.match(stderr, said);
    assert.doesNotMatch(stderr, /\n\s+at /, "a sentence, not a stack");
  };
  await Promise.all(wrong.map(check));
  assert.equal(statSync(device.path, { throwIfNoEntry: false })?.blocks ?? 0, 0);
});

test("a device that holds something else is not overwritten", { skip }, async () => {
  using device = simulatedDevice("4Gi");
  const content = Buffer.concat([Buffer.from("somebody's data"), Buffer.alloc(16 * MIB)]);
  writeFileSync(device.path, content);
  await assert.rejects(mountDevice(`file://${device.path}`), /--force|holds/);
  assert.ok(readFileSync(device.path).subarray(0, content.byteLength).equals(content));
});
