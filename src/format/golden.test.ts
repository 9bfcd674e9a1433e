import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import { EntryDecoder } from "./entry-decode.ts";
import { encodeEntry } from "./entry-encode.ts";
import { fsck } from "./fsck.ts";
import { encodeLogHeader, entryOffset, parseLogHeader } from "./log-header.ts";
import { LOG_OFFSET } from "./structs.ts";
import { encodeSuperblock, parseSuperblock } from "./superblock.ts";
import { GOLDEN_IMAGES, goldenJson } from "./testing/golden-images.ts";
import { parseVolumeRecord } from "./volume-record.ts";

const OWN = new URL("../../test/vectors/", import.meta.url);
const STOCK = new URL("../../../shared/vectors/", import.meta.url);

function images(folder: URL): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((file) => file.endsWith(".img.gz"))
    .map((file) => file.slice(0, -".img.gz".length));
}

const read = (folder: URL, file: string) => gunzipSync(readFileSync(new URL(file, folder)));

/** Superblock, log header and entries decoded and encoded again over zeros. */
function reencode(image: Uint8Array): Uint8Array {
  const copy = new Uint8Array(image.byteLength);
  const superblock = parseSuperblock(image);
  copy.set(encodeSuperblock(superblock));
  const header = parseLogHeader(image, LOG_OFFSET, superblock.logLength);
  copy.set(encodeLogHeader(header), LOG_OFFSET);
  const decoder = new EntryDecoder(image, parseVolumeRecord(image, 4096, superblock.uuid) !== undefined);
  for (let index = 0; index < header.nextIndex; index++) {
    const base = LOG_OFFSET + entryOffset(index);
    assert.equal(decoder.check(base, index), undefined);
    const { entry } = decoder.decode(base, index);
    assert.ok(entry !== undefined);
    encodeEntry(index, entry, copy, base);
  }
  return copy;
}

const stock = images(STOCK);
if (stock.length === 0) {
  test("the stock images decode to their JSON", { skip: process.env["CI"] ? false : "no ../shared/vectors" }, () => {
    assert.fail("../shared/vectors is missing");
  });
}
for (const name of stock) {
  const image = read(STOCK, `${name}.img.gz`);
  test(`stock image ${name} decodes to exactly its JSON, without findings`, () => {
    const { superblock, log, entries, findings } = fsck(image);
    assert.deepEqual({ superblock, log, entries }, JSON.parse(read(STOCK, `${name}.json.gz`).toString("utf8")));
    assert.deepEqual(findings, []);
  });
  test(`stock image ${name} has the same bytes when its content is encoded again`, () => {
    assert.ok(Buffer.from(reencode(image)).equals(image));
  });
}

for (const [name, make] of Object.entries(GOLDEN_IMAGES)) {
  test(`our image ${name} still has the bytes it had, and fsck says the same of it`, () => {
    const image = make();
    const kept = gunzipSync(readFileSync(new URL(`${name}.img.gz`, OWN)));
    assert.ok(
      kept.equals(image),
      "after a change of the format that is meant: node src/format/testing/golden-images.ts",
    );
    const json: unknown = JSON.parse(readFileSync(new URL(`${name}.json`, OWN), "utf8"));
    assert.deepEqual(JSON.parse(JSON.stringify(goldenJson(kept))), json);
  });
}
