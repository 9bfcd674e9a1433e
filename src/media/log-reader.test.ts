import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import { directory, simulatedVolume, taker } from "../../test/support/simulated-volume.ts";
import {
  describeEntry,
  describeSuperblock,
  encodeEntries,
  encodeEntry,
  entryOffset,
  FORMER_FILLER_RUN,
  LOG_COUNTERS_OFFSET,
  type LogEntry,
  MAX_TRANSACTION,
} from "../format/index.ts";
import { Device, LogReader, VolumeMedia } from "./index.ts";

const VECTORS = new URL("../../../shared/vectors/", import.meta.url);
const vectors = existsSync(VECTORS) ? readdirSync(VECTORS).filter((file) => file.endsWith(".img.gz")) : [];

if (vectors.length === 0) {
  test("stock images as devices", { skip: process.env["CI"] === "true" ? false : "no ../shared/vectors" }, () => {
    assert.fail("../shared/vectors is missing");
  });
}

for (const file of vectors) {
  const name = file.slice(0, -".img.gz".length);
  test(`the stock image ${name}, as a device, replays to what its JSON says`, async () => {
    const folder = mkdtempSync(join(tmpdir(), "famfs-vector-"));
    try {
      const path = join(folder, name);
      const json = JSON.parse(gunzipSync(readFileSync(new URL(`${name}.json.gz`, VECTORS))).toString("utf8"));
      writeFileSync(path, gunzipSync(readFileSync(new URL(file, VECTORS))));
      truncateSync(path, json.superblock.daxdevSize);
      await using device = await Device.open({ type: "path", path, sizeBytes: undefined }, { writable: false });
      const contents = await device.inspect();
      assert.ok(contents.type === "famfs" && !contents.extended);
      await using media = await VolumeMedia.open(device, device.whole, { writable: false });
      assert.equal(media.record, undefined);
      assert.deepEqual(describeSuperblock(media.superblock), json.superblock);
      const found = [];
      for (let more = true; more; ) {
        const polled = media.poll(1000);
        assert.deepEqual(polled.findings, []);
        found.push(...polled.entries);
        more = polled.more;
      }
      const shown = found.map(({ index, entry }) => ({ seqnum: index, ...describeEntry(entry) }));
      assert.deepEqual(
        shown,
        json.entries.map(({ crc: _crc, ...entry }: { crc: number }) => entry),
      );
      await assert.rejects(media.takeOver(taker(0, 1)), { code: "NOT_SUPPORTED" });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
}

/** A volume whose log tests write by hand, as late and broken writers do. */
async function scene() {
  const stack = new AsyncDisposableStack();
  const volume = stack.use(await simulatedVolume());
  const media = await volume.open();
  const { logOffset, lastIndex, coherent } = media;
  let now = 0;
  const reader = new LogReader({ window: media.window, logOffset, lastIndex, extended: true, coherent }, () => now);
  const { window } = await volume.open(); // of those who write
  return {
    media,
    reader,
    put: (index: number, ...entries: LogEntry[]) =>
      window.copyIn(logOffset + entryOffset(index), encodeEntries(index, entries)),
    /** Half of an entry, over what is there. */
    tear: (index: number, entry: LogEntry) =>
      window.copyIn(logOffset + entryOffset(index), encodeEntry(index, entry).subarray(0, 200)),
    counter: (next: number | bigint) => {
      window.store64(logOffset + LOG_COUNTERS_OFFSET, BigInt(next));
      window.store64(logOffset + LOG_COUNTERS_OFFSET + 8, BigInt(next));
      window.flush(logOffset + LOG_COUNTERS_OFFSET, 16);
    },
    fillers: (first: number): LogEntry[] =>
      nine("").map(() => ({ type: "filler", first, run: FORMER_FILLER_RUN, epoch: 2, nodeIdHash: "00".repeat(8) })),
    sleep: (milliseconds: number) => {
      now += milliseconds;
    },
    poll: (limit?: number) => {
      const { entries, ...rest } = reader.poll(limit);
      return { ...rest, names: entries.map(({ entry }) => (entry.type === "mkdir" ? entry.path : entry.type)) };
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

const nine = (name: string) => Array.from({ length: MAX_TRANSACTION + 1 }, () => name);

test("an entry whose stores have not arrived is waited for, then reported, and served when it comes", async () => {
  await using log = await scene();
  log.put(0, directory("a"));
  log.counter(2);
  const first = log.poll();
  assert.deepEqual(first.names, ["a"]);
  assert.deepEqual(
    first.findings.map((finding) => [finding.code, finding.index]),
    [["ENTRY_NOT_VISIBLE", 1]],
  );
  assert.equal(log.reader.condition?.index, undefined);
  assert.deepEqual([log.reader.position, log.reader.published(), log.reader.caughtUp], [1, 2, false]);
  let reported = 0;
  for (let waited = 0; waited < 5000; waited += 10) {
    log.sleep(10);
    const { findings, names } = log.poll();
    assert.deepEqual(names, []);
    for (const finding of findings) {
      assert.deepEqual([finding.code, finding.index], ["ENTRY_CORRUPT", 1]);
      assert.ok(waited > 500, "not before it had time");
      reported++;
    }
  }
  assert.equal(reported, 1);
  assert.equal(log.reader.condition?.index, 1);
  log.put(1, directory("b"));
  log.sleep(1000);
  assert.deepEqual(log.poll().names, ["b"]);
  assert.equal(log.reader.condition, undefined);
  assert.deepEqual([log.reader.position, log.reader.published(), log.reader.caughtUp], [2, 2, true]);
});

test("a bad entry hides what follows and nothing before it", async () => {
  await using log = await scene();
  log.put(0, directory("a"), directory("b"), directory("c"), directory("d"));
  log.tear(2, directory("zzz"));
  log.counter(4);
  assert.deepEqual(log.poll().names, ["a", "b"]);
  assert.equal(log.reader.position, 2);
});

test("an entry that says nothing possible keeps its place and is reported", async () => {
  await using log = await scene();
  const impossible: LogEntry = { type: "unknown", code: 0x66780001, payload: new Uint8Array(520) };
  log.put(0, directory("a"), impossible, directory("c"));
  log.counter(3);
  const { names, findings } = log.poll();
  assert.deepEqual(names, ["a", "invalid", "c"]);
  assert.deepEqual(
    findings.map((finding) => [finding.code, finding.index]),
    [["ENTRY_MALFORMED", 1]],
  );
});

test("a counter beyond the log is a finding, once, and is not followed", async () => {
  await using log = await scene();
  log.put(0, directory("a"));
  log.counter(2n ** 64n - 1n);
  const { names, findings } = log.poll();
  assert.deepEqual(names, ["a"]);
  assert.deepEqual(
    findings.map((finding) => finding.code),
    ["LOG_COUNTERS", "ENTRY_NOT_VISIBLE"],
  );
  log.sleep(10);
  assert.deepEqual(log.poll().findings, []);
});

test("entries past the counter are not believed", async () => {
  await using log = await scene();
  log.put(0, directory("a"), directory("in flight"));
  log.counter(1);
  assert.deepEqual(log.poll().names, ["a"]);
});

test("what a late counter hides is read: it begins with a filler of the new owner", async () => {
  await using log = await scene();
  log.put(0, directory("a"), ...log.fillers(1), directory("acknowledged"));
  log.put(1, directory("late 1"), directory("late 2")); // the old owner's transaction, over two fillers
  log.counter(3); // and its counter
  assert.deepEqual(log.poll().names, ["a", ...nine("filler"), "acknowledged"]);
  log.put(11, directory("next"));
  log.counter(12);
  assert.deepEqual(log.poll().names, ["next"]);
});

test("nor from a reader that has looked at these places before", async () => {
  await using log = await scene();
  log.put(0, directory("a"));
  log.counter(1);
  assert.deepEqual(log.poll().names, ["a"]);
  log.put(1, ...log.fillers(1), directory("acknowledged"));
  log.counter(3);
  assert.deepEqual(log.poll().names, [...nine("filler"), "acknowledged"]);
});

test("a counter lowered below what was read already hides nothing for long", async () => {
  await using log = await scene();
  log.put(0, directory("a"), ...log.fillers(1), directory("b"));
  log.counter(11);
  assert.deepEqual(log.poll().names, ["a", ...nine("filler"), "b"]);
  log.put(11, directory("c"));
  log.counter(2);
  assert.deepEqual(log.poll().names, ["c"]);
});

test("a late counter that is the one that was seen last hides nothing for long", async () => {
  await using log = await scene();
  log.put(0, directory("a"));
  log.counter(1);
  assert.deepEqual(log.poll().names, ["a"]);
  // The next owner raised it, and before anybody looked the old one's late store lowered it again.
  log.put(1, ...log.fillers(1), directory("acknowledged"));
  const names: string[] = [];
  for (let look = 0; look < 1000 && names.length === 0; look++) names.push(...log.poll().names);
  assert.deepEqual(names, [...nine("filler"), "acknowledged"]);
});

test("a torn late transaction over fillers does not stop readers", async () => {
  await using log = await scene();
  log.put(0, directory("a"), ...log.fillers(1), directory("b"));
  log.tear(1, directory("late"));
  log.tear(8, directory("late"));
  log.counter(11);
  const { names, findings } = log.poll();
  assert.deepEqual(names, ["a", ...nine("filler"), "b"]);
  assert.deepEqual(findings, []);
});

test("an entry that was delivered and then replaced by a filler is retracted", async () => {
  await using log = await scene();
  log.put(0, directory("a"), directory("ghost"));
  log.counter(2);
  assert.deepEqual(log.poll().names, ["a", "ghost"]);
  log.put(1, ...log.fillers(1), directory("b"));
  log.counter(11);
  const polled = log.poll();
  assert.ok(polled.retracted);
  assert.deepEqual(
    polled.findings.map((finding) => [finding.code, finding.index]),
    [["ENTRY_RETRACTED", 1]],
  );
  assert.ok(log.poll().retracted, "until the reader begins again");
  log.reader.rewind();
  assert.deepEqual(log.poll().names, ["a", ...nine("filler"), "b"]);
});

test("a filler that does not count retracts nothing: readers would begin again for ever", async () => {
  const filler = (first: number, epoch: number): LogEntry => {
    return { type: "filler", first, run: FORMER_FILLER_RUN, epoch, nodeIdHash: "00".repeat(8) };
  };
  {
    await using log = await scene();
    log.put(0, directory("a"), directory("b"), ...nine("").map(() => filler(2, 3)), directory("c"));
    log.put(8, filler(0, 2)); // of a taker that had lost the log in turn
    log.counter(12);
    const { names, retracted } = log.poll();
    assert.deepEqual([names, retracted], [["a", "b", ...nine("filler"), "c"], false]);
  }
  {
    await using log = await scene();
    log.put(0, ...Array.from({ length: 12 }, (_, at) => directory(`d${at}`)), filler(3, 5)); // not in its run
    log.counter(13);
    assert.equal(log.poll().retracted, false);
  }
});

test("an idle poll is one load; a limit cuts a poll and says so", async () => {
  await using log = await scene();
  const names = Array.from({ length: 1300 }, (_, at) => `d${at}`);
  for (const [at, name] of names.entries()) log.put(at, directory(name));
  log.counter(names.length);
  const first = log.poll(600);
  assert.deepEqual(first.names, names.slice(0, 600));
  assert.ok(first.more);
  assert.deepEqual(log.poll(600).names, names.slice(600, 1200));
  const last = log.poll(600);
  assert.deepEqual([last.names, last.more], [names.slice(1200), false]);
  // With the entries gone only something that reads them would notice.
  log.media.window.zero(log.media.logOffset + entryOffset(0), 1300 * 544);
  for (let round = 0; round < 200; round++) assert.deepEqual(log.poll().names, []);
});

test("a stock volume knows no fillers", async () => {
  await using volume = await simulatedVolume({ format: { stock: true } });
  const media = await volume.open();
  const filler: LogEntry = { type: "filler", first: 0, run: 10, epoch: 1, nodeIdHash: "00".repeat(8) };
  media.window.copyIn(media.logOffset + entryOffset(0), encodeEntries(0, [directory("a"), filler, directory("b")]));
  media.window.store64(media.logOffset + LOG_COUNTERS_OFFSET + 8, 1n);
  assert.deepEqual(
    media.poll().entries.map(({ entry }) => entry.type),
    ["mkdir"],
  );
});
