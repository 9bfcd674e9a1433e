/**
 * The golden images of the stock library through `famfs-csi fsck --output json`: the JSON beside each, to the digit.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import { runProgram, simulatedDevice } from "./support/program.ts";

const folder = new URL("../../shared/vectors/", import.meta.url);
const skip = existsSync(folder) ? false : `needs the golden images in ${folder.pathname}`;
const names = skip === false ? readdirSync(folder).filter((name) => name.endsWith(".img.gz")) : [];

/** Integers keep all their digits: u64 values do not fit a double. */
function parseExactly(text: string): unknown {
  return JSON.parse(text, (_key, value, context?: { source: string }) =>
    typeof value === "number" && context !== undefined ? `number ${context.source}` : value,
  );
}

test("there are golden images", { skip }, () => {
  assert.ok(names.length >= 5, `${names.length} images`);
});

for (const image of names) {
  const name = image.slice(0, -".img.gz".length);
  test(`fsck --output json of ${name} is its JSON`, async () => {
    const expected = gunzipSync(readFileSync(new URL(`${name}.json.gz`, folder))).toString();
    const { superblock } = JSON.parse(expected);
    using device = simulatedDevice(String(superblock.daxdevSize));
    writeFileSync(device.path, gunzipSync(readFileSync(new URL(image, folder))));
    truncateSync(device.path, superblock.daxdevSize);

    const { status, stdout, stderr } = await runProgram("fsck", "--output", "json", device.url);
    assert.equal(status, 0, stdout.slice(-2000) + stderr);
    const shown = parseExactly(stdout) as Record<string, unknown>;
    const { superblock: seen, log, entries, findings } = shown;
    assert.deepEqual({ superblock: seen, log, entries }, parseExactly(expected));
    assert.deepEqual(findings, []);
  });
}
