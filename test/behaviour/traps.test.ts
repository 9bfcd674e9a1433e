/** What the kernel does that is easily taken for granted to be otherwise (docs/guarantees.md, Traps). */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";
import { skipWithoutMounts } from "../support/kernel.ts";
import { behaviourVolume } from "../support/mounted-volume.ts";
import { firstMissing, missingAllUsers } from "../support/prerequisites.ts";

const run = promisify(execFile);
const options = { skip: skipWithoutMounts(), timeout: 20_000 };
/** Short, so that a file which seals too early is sealed by the time it is written again. */
const settings = { sealDelayMs: 50 };

const shell = (script: string, path: string) =>
  run("bash", ["-c", `set -e\ncd "$1"\n${script}`, "test", path], { timeout: 15_000, killSignal: "SIGKILL" });

test("processes that share a descriptor write one file, however many of them exit", options, async () => {
  await using volume = await behaviourVolume();
  await using mounted = await volume.mount({ settings });
  const { stdout } = await shell(
    `echo one > a; echo two > b
     (cat a; sleep 0.3; cat b; sleep 0.3; echo three) > all; cat all`,
    mounted.path,
  );
  assert.equal(stdout, "one\ntwo\nthree\n");
});

test(
  "a file is renamed right after its close, before it is released, and seals under its new name",
  options,
  async () => {
    await using volume = await behaviourVolume({ dataBytes: 256 * 2 ** 20 });
    const names = Array.from({ length: 50 }, (_, index) => `new-${index + 1}`).sort();
    {
      await using mounted = await volume.mount({ settings });
      await shell(`for i in $(seq 50); do echo $i > old; mv old new-$i; done`, mounted.path);
    }
    await using again = await volume.mount();
    const { stdout } = await shell(`ls; cat new-*`, again.path);
    const lines = stdout.trim().split("\n");
    assert.deepEqual(lines.slice(0, 50).sort(), names);
    assert.equal(lines.length, 100);
  },
);

test("a mapping keeps its file open after close: what is stored later is in the file", options, async () => {
  await using volume = await behaviourVolume();
  await using mounted = await volume.mount({ settings });
  const program = `
import mmap, os, time
fd = os.open("mapped", os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 8192)
memory = mmap.mmap(fd, 8192)
os.close(fd)
time.sleep(0.3)
memory[4096:4101] = b"later"
memory.close()
`;
  const { stdout } = await shell(
    `python3 -c '${program}'; tail -c +4097 mapped | head -c 5; stat -c %s mapped`,
    mounted.path,
  );
  assert.equal(stdout, "later8192\n");
});

const otherUsers = { ...options, skip: firstMissing(options.skip, missingAllUsers()) };

test(
  "another user may not read what its mode keeps from him, and a set-id program gives him nothing",
  otherUsers,
  async () => {
    await using volume = await behaviourVolume();
    await using mounted = await volume.mount();
    const { stdout } = await shell(
      `echo secret > private; chmod 600 private; mkdir -m 700 closed; echo hidden > closed/file
     cp "$(command -v id)" id-of; chmod 6755 id-of
     as() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@" 2>&1 || true; }
     as cat private; as cat closed/file; as sh -c ": > new"
     stat -c %a id-of; as ./id-of -u; as ./id-of -g`,
      mounted.path,
    );
    const [file, inDirectory, created, mode, uid, gid] = stdout.trim().split("\n");
    for (const refusal of [file, inDirectory, created]) assert.match(refusal ?? "", /Permission denied/);
    assert.deepEqual([mode, uid, gid], ["6755", "65534", "65534"]);
  },
);

for (const [kernel, withhold] of [
  ["this kernel", []],
  ["a kernel without DIRECT_IO_ALLOW_MMAP", ["DIRECT_IO_ALLOW_MMAP"]],
] as const) {
  test(`a file that is open for write on a shared volume can be mapped, on ${kernel}`, options, async () => {
    await using volume = await behaviourVolume();
    await using mounted = await volume.mount({ settings: { ...settings, shared: true }, withhold });
    const program = `
import mmap, os
fd = os.open("mapped", os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 4096)
memory = mmap.mmap(fd, 4096)
memory[0:6] = b"stored"
memory.flush()
`;
    const { stdout } = await shell(`python3 -c '${program}'; head -c 6 mapped`, mounted.path);
    assert.equal(stdout, "stored");
  });
}
