import assert from "node:assert/strict";
import { test } from "node:test";
import { isFamfsError } from "../base/index.ts";
import type { SealedTree } from "../format/index.ts";
import type { Nodes } from "./nodes.ts";
import type { Ownership } from "./ownership.ts";
import type { Space } from "./space.ts";
import { Transactions } from "./transactions.ts";

test("an own entry that replay refuses is an error for the caller, and ends the ownership", () => {
  const lost: unknown[] = [];
  const finding = { code: "EXTENT_OVERLAP" as const, index: 7, message: "log entry 7: its space is claimed already" };
  const transactions = new Transactions({
    model: { sealed: { nextIndex: 7, apply: () => ({ changes: [], findings: [finding] }) } as unknown as SealedTree },
    nodes: {} as Nodes,
    space: {} as Space,
    ownership: {
      yieldingWriter: { nextIndex: 7, append: () => undefined },
      lose: (error: unknown) => lost.push(error),
    } as unknown as Ownership,
    extended: true,
    capacity: 100,
  });
  const entry = { type: "mkdir" as const, path: "d", uid: 0, gid: 0, mode: 0o755 };
  assert.throws(
    () => transactions.append([{ entry }]),
    (error) => isFamfsError(error) && error.code === "LOG_CORRUPT" && error.message.includes(finding.message),
  );
  assert.equal(lost.length, 1);
});
