/** Bytes, modes, owners and times through a real mount, fsck and a second mount. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  symlinkSync,
  utimesSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { skipWithoutMounts } from "../support/kernel.ts";
import { manifest } from "../support/manifest.ts";
import { firstMissing, missingAllUsers, missingCommand } from "../support/prerequisites.ts";
import { mountDevice, runProgram, simulatedDevice } from "../support/program.ts";

const run = promisify(execFile);
const LARGE_TREE = "/usr/include";

const skip = skipWithoutMounts();
const missingFio = missingCommand("fio");
const missingTree = existsSync(join(LARGE_TREE, "stdio.h")) ? false : `needs a large tree in ${LARGE_TREE} (libc6-dev)`;

async function assertClean(device: string): Promise<void> {
  const fsck = await runProgram("fsck", device);
  assert.equal(fsck.status, 0, fsck.stdout + fsck.stderr);
}

/** fio writes what it can recognise and reads it back; then reads it again from the sealed file after a remount. */
const FIO_JOBS: Readonly<Record<string, readonly string[]>> = {
  sequential: ["--rw=write", "--bs=1M", "--ioengine=psync", "--size=96M"],
  direct: ["--rw=randwrite", "--bs=4k", "--ioengine=psync", "--direct=1", "--size=24M"],
  parallel: [
    "--rw=randwrite",
    "--bs=16k",
    "--ioengine=libaio",
    "--iodepth=16",
    "--direct=1",
    "--size=24M",
    "--numjobs=2",
  ],
  mapped: ["--rw=randwrite", "--bs=8k", "--ioengine=mmap", "--size=24M"],
  declared: ["--rw=randwrite", "--bs=64k", "--ioengine=psync", "--fallocate=posix", "--size=24M", "--nrfiles=6"],
};

test("fio verifies what it wrote, on the mount and on a second one", {
  skip: firstMissing(skip, missingFio),
}, async () => {
  using device = simulatedDevice("4Gi");
  const fio = (directory: string, name: string, ...more: string[]) =>
    run("fio", [
      `--name=${name}`,
      `--directory=${directory}`,
      ...(FIO_JOBS[name] ?? []),
      "--verify=crc32c",
      "--verify_fatal=1",
      "--randrepeat=1",
      "--verify_state_save=0",
      "--group_reporting",
      ...more,
    ]);
  {
    await using mounted = await mountDevice(device.url);
    for (const name of Object.keys(FIO_JOBS)) await fio(mounted.directory, name, "--do_verify=1");
  }
  await assertClean(device.url);
  {
    await using mounted = await mountDevice(device.url);
    for (const name of Object.keys(FIO_JOBS)) await fio(mounted.directory, name, "--verify_only=1");
    // Rewriting sealed files in place.
    for (const name of Object.keys(FIO_JOBS)) await fio(mounted.directory, name, "--do_verify=1", "--overwrite=1");
  }
  await assertClean(device.url);
});

test("a large tree is the same after cp -r, after a remount, and clean for fsck", {
  skip: firstMissing(skip, missingTree),
}, async () => {
  // Each small file takes an allocation unit of 2 MiB.
  using device = simulatedDevice("64Gi");
  let seen: string[];
  {
    await using mounted = await mountDevice(device.url);
    const copy = join(mounted.directory, "copy");
    await run("cp", ["-r", "--no-dereference", LARGE_TREE, copy]);
    await run("diff", ["-r", "--no-dereference", LARGE_TREE, copy], { maxBuffer: 2 ** 26 });
    seen = manifest(mounted.directory);
  }
  await assertClean(device.url);
  {
    await using mounted = await mountDevice(device.url);
    assert.deepEqual(manifest(mounted.directory), seen);
    await run("diff", ["-r", "--no-dereference", LARGE_TREE, join(mounted.directory, "copy")], { maxBuffer: 2 ** 26 });
  }
});

test("modes, owners and times survive a remount", { skip: firstMissing(skip, missingAllUsers()) }, async () => {
  using device = simulatedDevice("4Gi");
  let seen: string[];
  {
    await using mounted = await mountDevice(device.url);
    const at = (...path: string[]) => join(mounted.directory, ...path);
    const long = "n".repeat(255);
    for (const directory of ["d", "d/sub", `d/${long}`]) mkdirSync(at(directory));
    const files = ["f", "d/g", "d/sub/empty", `d/${long}/${long}`];
    for (const [i, file] of files.entries()) {
      await run("cp", [i === 2 ? "/dev/null" : "/usr/bin/env", at(file)]);
      chmodSync(at(file), [0o4755, 0o600, 0o440, 0o1777][i] ?? 0);
      chownSync(at(file), 1000 + i, 2_000_000_000 + i);
      utimesSync(at(file), 10 + i, [0, 1, -86_400, 4_102_444_800][i] ?? 0);
    }
    symlinkSync("d/g", at("link"));
    lutimesSync(at("link"), 5, 1_234_567_890.25);
    // Once sealed, all of it is changed a second time.
    await run("sync", [at("."), at("d"), at("d/sub"), at("d", long)]);
    chmodSync(at("d/g"), 0o777);
    chownSync(at("d"), 77, 88);
    chmodSync(at("d"), 0o2751);
    utimesSync(at("f"), 1, 987_654_321.125);
    utimesSync(at("d"), 1, 123_456_789);
    seen = manifest(mounted.directory);
    assert.deepEqual(readdirSync(at("d")).sort(), ["g", long, "sub"].sort());
  }
  await assertClean(device.url);
  await using mounted = await mountDevice(device.url);
  assert.deepEqual(manifest(mounted.directory), seen);
});
