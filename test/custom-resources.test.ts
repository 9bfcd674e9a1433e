import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { customResourceFiles } from "../scripts/gen-crds.ts";

test("the chart has the custom resource definitions that the records' schemas give (npm run gen-crds)", () => {
  for (const [file, text] of customResourceFiles()) assert.equal(readFileSync(file, "utf8"), text, file);
});
