import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { directory, simulatedVolume } from "../../test/support/simulated-volume.ts";
import { formatVolume, readSystemUuid, StockLogWriter } from "./index.ts";

const OWNER = "11111111-2222-4333-8444-555555555555";

test("the owner of a stock file system appends to its log until somebody else has, or it was formatted again", async () => {
  await using volume = await simulatedVolume({ format: { stock: true, systemUuid: OWNER } });
  const [a, b] = [await volume.open(), await volume.open()];
  const writer = StockLogWriter.open(a, OWNER);
  writer.append([directory("a"), directory("b")]);
  assert.equal(writer.nextIndex, 2);
  const names = b.poll().entries.map(({ entry }) => (entry.type === "mkdir" ? entry.path : entry.type));
  assert.deepEqual(names, ["a", "b"]);

  const later = StockLogWriter.open(b, OWNER);
  assert.equal(later.nextIndex, 2);
  later.append([directory("c")]);
  assert.equal(writer.holds(), false);
  assert.throws(() => writer.append([directory("d")]), { code: "OWNER_STALE", message: /somebody else wrote/ });
  assert.equal(later.holds(), true);
  const again = { uuid: OWNER, name: "", uid: 0, gid: 0, mode: 0o755, generation: 1, createdSeconds: 0 };
  await formatVolume(volume.device, volume.region, { ...again, stock: true, systemUuid: OWNER });
  assert.throws(() => later.append([directory("d")]), { code: "OWNER_STALE" });
});

test("another host, and what the stock tools do not know, is refused", async () => {
  await using volume = await simulatedVolume({ format: { stock: true, systemUuid: OWNER } });
  const media = await volume.open();
  for (const other of [undefined, "99999999-2222-4333-8444-555555555555"]) {
    assert.throws(() => StockLogWriter.open(media, other), { code: "NOT_PERMITTED", message: new RegExp(OWNER) });
  }
  const writer = StockLogWriter.open(media, OWNER);
  const removal = { type: "relink", target: 0, link: undefined, mode: 0, uid: 0, gid: 0, mtime: undefined } as const;
  assert.throws(() => writer.append([directory("a"), removal]), { code: "NOT_PERMITTED" });
  assert.equal(media.published(), 0);
});

test("the system UUID is what the stock tools wrote, or none", async () => {
  const folder = mkdtempSync(join(tmpdir(), "famfs-system-uuid-"));
  try {
    const file = join(folder, "system_uuid");
    assert.equal(await readSystemUuid(file), undefined);
    for (const [text, expected] of [
      [`${OWNER}\0`, OWNER],
      [`${OWNER.toUpperCase()}\n`, OWNER],
      ["garbage", undefined],
    ] as const) {
      writeFileSync(file, text);
      assert.equal(await readSystemUuid(file), expected);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
