/**
 * Mapped memory never becomes an object of JavaScript: indexing it after a truncation kills the process, and posting
 * it to a worker copies it (docs/decisions/0001). And the descriptor of a connection is shared, never cloned.
 */
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

const here = import.meta.dirname;
const filesOf = (pattern: string) =>
  globSync(pattern, { cwd: here }).map((name) => ({ name, text: readFileSync(join(here, name), "utf8") }));
const matches = (files: readonly { name: string; text: string }[], pattern: RegExp) =>
  files.flatMap(({ name, text }) => [...text.matchAll(pattern)].map(([found]) => `${name}: ${found}`));

test("no call of the addon makes a buffer", () => {
  const sources = filesOf("*.[ch]");
  assert.ok(matches(sources, /\bnapi_create_function\b/g).length > 0, "the sources are there");
  assert.deepEqual(matches(sources, /\bnapi?_(?:api_)?create_\w*(?:buffer|dataview|typedarray)\w*/g), []);
});

test("no call of the addon returns one, or passes one to a callback", () => {
  const interfaces = filesOf("*.ts").filter(({ name }) => !name.endsWith(".test.ts"));
  const calls = /^ {2}\w+\([^;]*?\): ([^;]+);$/gm;
  const results = interfaces.flatMap(({ text }) =>
    [...text.matchAll(calls)].map(([, result = ""]) => result.replaceAll(/"\w+"/g, "")),
  );
  assert.ok(results.length > 40, `${results.length} calls are found`);
  const bytes = /Buffer|Array\b|DataView|Uint8|object|unknown|any\b/;
  assert.deepEqual(
    results.filter((result) => bytes.test(result)),
    [],
  );
  const callbacks = matches(interfaces, /\([^()]*\) => void/g);
  assert.ok(callbacks.length > 0);
  assert.deepEqual(
    callbacks.filter((callback) => bytes.test(callback)),
    [],
  );
});

// A clone aborts the requests it has taken when its holder dies: they could not be sent again to a successor.
test("descriptors of a connection are not cloned", () => {
  assert.deepEqual(matches(filesOf("*.[ch]"), /FUSE_DEV_IOC_CLONE|_IOR\(229/g), []);
});
