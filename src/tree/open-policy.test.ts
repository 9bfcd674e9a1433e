import assert from "node:assert/strict";
import { constants } from "node:fs";
import { test } from "node:test";
import { decideOpen } from "./open-policy.ts";
import { DEFAULT_SETTINGS, type TreeSettings } from "./options.ts";

const { O_DIRECT, O_RDONLY, O_WRONLY, O_RDWR } = constants;

function decided(flags: number, settings: Partial<TreeSettings>) {
  return decideOpen(flags, { ...DEFAULT_SETTINGS, directIoAllowMmap: true, ...settings });
}

test("what only writes bypasses the page cache, and leaves what others have there", () => {
  const answer = decided(O_WRONLY, {});
  assert.deepEqual([answer.directIo, answer.keepCache], [true, true]);
  assert.equal(decided(O_RDWR | O_DIRECT, {}).directIo, true);
  // Older kernels do not drop the pages that are written over.
  assert.equal(decided(O_WRONLY, { directIoAllowMmap: false }).directIo, false);
});

test("files of one node that are read as well use the page cache", () => {
  for (const flags of [O_RDONLY, O_RDWR]) {
    const answer = decided(flags, {});
    assert.deepEqual([answer.directIo, answer.keepCache], [false, true]);
  }
});

test("on a shared volume nothing that is written stays in the page cache", () => {
  for (const flags of [O_WRONLY, O_RDWR]) {
    const answer = decided(flags, { shared: true });
    assert.deepEqual([answer.directIo, answer.keepCache], [true, false]);
  }
  assert.deepEqual(decided(O_RDONLY, { shared: true }).directIo, false);
});

test("a close reports what was lost, where something can be lost", () => {
  assert.equal(decided(O_RDWR, {}).reportsAtClose, true);
  assert.equal(decided(O_RDWR, { soleOwner: true }).reportsAtClose, false);
  assert.equal(decided(O_RDONLY, {}).reportsAtClose, false);
});
