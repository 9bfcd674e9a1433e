/** `npm run test:long` names tests that exist. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { ROWS } from "./rows.ts";

test("each row names a property whose number of cases can be said", () => {
  for (const { file, test: name } of ROWS) {
    const text = readFileSync(new URL(`../../${file}`, import.meta.url), "utf8");
    assert.ok(text.includes(`test("${name}"`), `${file} has no test "${name}"`);
    assert.ok(text.includes("cases("), file);
  }
});
