/** `npm run test:mutations` takes long and is run now and then; that it could be run is checked always. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { findPiece, root } from "../support/checkout.ts";
import { MUTATIONS } from "./table.ts";

test("what each mutation replaces is in its file exactly once", () => {
  const wrong = MUTATIONS.filter(({ file, search }) => {
    const path = join(root, file);
    return !existsSync(path) || findPiece(readFileSync(path, "utf8"), search) === undefined;
  }).map(({ name, file, search }) => `bring ${name} in test/mutations/table.ts up to date: ${file} has not ${search}`);
  assert.deepEqual(wrong, []);
});

test("mutations have names of their own, and tests that exist", () => {
  const names = MUTATIONS.map(({ name }) => name);
  assert.deepEqual(
    names.filter((name, at) => names.indexOf(name) !== at),
    [],
  );
  const missing = MUTATIONS.flatMap(({ name, tests }) =>
    tests.filter((file) => !existsSync(join(root, file))).map((file) => `${name}: ${file}`),
  );
  assert.deepEqual(missing, []);
});
