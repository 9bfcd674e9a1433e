/** File systems of the stock tools: what their owner may do here, and what the stock tools then read. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";
import { EntryDecoder, entryOffset, type LogEntry, SealedTree } from "../../src/format/index.ts";
import { FuseServer } from "../../src/fuse/index.ts";
import { skipWithoutMounts } from "../support/kernel.ts";
import { MountedVolume } from "../support/mounted-volume.ts";
import { type SimulatedVolume, simulatedVolume } from "../support/simulated-volume.ts";

const run = promisify(execFile);
const options = { skip: skipWithoutMounts(), timeout: 60_000 };
const OWNER = "11111111-2222-4333-8444-555555555555";
const OTHER = "99999999-2222-4333-8444-555555555555";

async function python(directory: string, script: string): Promise<void> {
  const prelude = `
import errno, os, sys
os.chdir(sys.argv[1])
def fails(code, call, *args):
    try: call(*args)
    except OSError as error:
        assert errno.errorcode[error.errno] == code, f"{errno.errorcode[error.errno]}, expected {code}"
        return
    raise AssertionError(f"no {code}")
def put(name, data):
    with open(name, "wb") as f: f.write(data)
def get(name):
    with open(name, "rb") as f: return f.read()
def seal(path="."):
    fd = os.open(path, os.O_RDONLY); os.fsync(fd); os.close(fd)
`;
  await run("python3", ["-c", prelude + script, directory], { timeout: 30_000, killSignal: "SIGKILL" });
}

/** What stock replay makes of the log, and the bytes of its files. */
async function stockReplay(volume: SimulatedVolume) {
  const media = await volume.open({ writable: false });
  const { window, logOffset, dataOffset, superblock } = media;
  const tree = new SealedTree({
    regionLength: media.region.length,
    dataOffset,
    allocUnit: superblock.allocUnit,
    extended: false,
    rootUid: 0,
    rootGid: 0,
    rootMode: 0o755,
  });
  const count = media.published();
  const decoder = new EntryDecoder(window.read(logOffset + entryOffset(0), count * 544), false);
  const entries: LogEntry[] = [];
  for (let index = 0; index < count; index++) {
    const { entry } = decoder.decode(index * 544, index);
    assert.ok(entry, `entry ${index}`);
    assert.deepEqual(tree.apply(index, entry).findings, []);
    entries.push(entry);
  }
  const bytes = (entry: LogEntry) =>
    entry.type === "file" && entry.layout.type === "simple" && entry.layout.extents[0] !== undefined
      ? Buffer.from(window.read(entry.layout.extents[0].offset, entry.size)).toString("latin1")
      : undefined;
  return entries.map((entry) =>
    "path" in entry
      ? {
          type: entry.type,
          path: entry.path,
          mode: entry.mode.toString(8),
          uid: entry.uid,
          data: bytes(entry)?.slice(0, 9),
        }
      : entry.type,
  );
}

test(
  "the owner makes files and directories that the stock tools read; what their log cannot say is EPERM",
  options,
  async () => {
    await using fuse = await FuseServer.open({ workers: 2 });
    await using volume = await simulatedVolume({ format: { stock: true, systemUuid: OWNER } });
    const settings = { sealDelayMs: 100 };
    {
      await using mount = await MountedVolume.open(fuse, volume, { systemUuid: OWNER, settings });
      await python(
        mount.path,
        `
os.makedirs("models/a"); put("models/a/weights.tmp", b"w" * 3000000); os.rename("models/a/weights.tmp", "models/a/weights")
put("small", b"contents"); os.chmod("small", 0o640); open("empty", "w").close()
seal("models/a"); seal("models"); seal()
fd = os.open("models/a/weights", os.O_RDWR); os.pwrite(fd, b"REWRITTEN", 0); os.fsync(fd); os.close(fd)
fails("EPERM", os.unlink, "small"); fails("EPERM", os.rename, "small", "other"); fails("EPERM", os.chmod, "small", 0o600)
fails("EPERM", os.utime, "small", (1, 1)); fails("EPERM", os.symlink, "small", "link")
fails("EPERM", open, "small", "wb"); fails("EPERM", os.truncate, "small", 3); fails("EFBIG", lambda: os.write(os.open("small", os.O_WRONLY | os.O_APPEND), b"x"))
put("tmp", b"x"); fails("EPERM", os.rename, "tmp", "small"); os.unlink("tmp")
fails("EPERM", os.mkdir, "d" * 79); os.mkdir("d" * 78); fails("EPERM", open, "models/" + "n" * 72, "wb")
os.mkdir("new"); put("new/" + "n" * 70, b"long"); fails("EPERM", os.rename, "new", "renewed" + "n"); os.rename("new", "old")
assert get("small") == b"contents" and get("models/a/weights")[:10] == b"REWRITTENw"
assert sorted(os.listdir(".")) == ["d" * 78, "empty", "models", "old", "small"]
`,
      );
    }
    const seen = await stockReplay(volume);
    assert.deepEqual(
      seen
        .map((entry) => (typeof entry === "string" ? entry : `${entry.type} ${entry.path.replace(/(.)\1{9,}/, "$1…")}`))
        .sort(),
      ["file models/a/weights", "file old/n…", "file small", "mkdir d…", "mkdir models", "mkdir models/a", "mkdir old"],
    );
    {
      await using mount = await MountedVolume.open(fuse, volume, { systemUuid: OTHER, settings });
      await python(
        mount.path,
        `
assert get("small") == b"contents" and os.stat("small").st_mode & 0o777 == 0o640
assert get("models/a/weights")[:10] == b"REWRITTENw" and os.stat("models/a/weights").st_size == 3000000
assert sorted(os.listdir(".")) == ["d" * 78, "models", "old", "small"]
fails("EROFS", put, "more", b"x"); fails("EROFS", os.unlink, "small")
`,
      );
    }
  },
);
