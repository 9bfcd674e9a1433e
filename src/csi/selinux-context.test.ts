import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { hasCode } from "../base/index.ts";
import { parseCapability } from "./requests.ts";
import { isSeLinuxContext, seLinuxContextIn } from "./selinux-context.ts";

const LABELS = [
  "system_u:object_r:container_file_t:s0:c1,c2",
  "system_u:object_r:container_file_t:s0",
  "system_u:object_r:container_file_t:s0:c0.c1023",
  "system_u:object_r:container_file_t:s0-s15:c0.c1023",
  "system_u:object_r:container_file_t:s0:c1-s0:c1,c5.c9,c11",
  "staff_u:object_r:my.type-2_t",
];

/** What parseCapability makes of mount flags. */
function parsed(...mountFlags: string[]) {
  const mount = { fsType: "famfs", mountFlags, volumeMountGroup: "" };
  return parseCapability({ mount, accessType: "mount", accessMode: { mode: "SINGLE_NODE_SINGLE_WRITER" } });
}

const refused = (message: RegExp) => (error: unknown) =>
  hasCode(error, "INVALID_ARGUMENT") && message.test(error.message);

test("the label of a context flag is taken as the kubelet sends it, and without quotes", () => {
  for (const label of LABELS) {
    assert.equal(seLinuxContextIn(`context="${label}"`), label);
    assert.equal(seLinuxContextIn(`context=${label}`), label);
    const { seLinuxContext, mountFlags } = parsed("ro,noexec", `context="${label}"`, "noatime");
    assert.deepEqual(
      { seLinuxContext, mountFlags },
      { seLinuxContext: label, mountFlags: ["ro", "noexec", "noatime"] },
    );
  }
  assert.equal(parsed("ro").seLinuxContext, undefined);
});

test("flags that only look like it are refused with their text", () => {
  const [label = ""] = LABELS;
  for (const flag of [
    "context=",
    'context=""',
    'context="',
    `context="${label}`,
    `context=${label}"`,
    `context="${label}",suid`,
    `context=${label},suid`,
    `context="${label}"\n`,
    `context="${label},fd=3"`,
    `context='${label}'`,
    `context="${label}\\"`,
    `context="system_u:object_r"`,
    `context="system_u:object_r:container_file_t:SystemHigh"`,
    `context="system_u:object_r:${"t".repeat(1024)}"`,
    `Context="${label}"`,
    `fscontext="${label}"`,
    `defcontext="${label}"`,
    `rootcontext="${label}"`,
    // One of several in one string: its commas would be taken for theirs.
    `ro,context="${label}"`,
  ]) {
    assert.throws(() => parsed(flag), refused(/mount flag "/), flag);
  }
});

test("two labels are one only when they are the same", () => {
  const [one = "", other = ""] = LABELS;
  assert.equal(parsed(`context="${one}"`, `context=${one}`).seLinuxContext, one);
  assert.throws(() => parsed(`context="${one}"`, `context="${other}"`), refused(/two SELinux contexts/));
});

test("whatever is sent, what is taken for a label can neither end the option nor begin another", () => {
  const piece = fc.oneof(
    fc.constantFrom(
      ...LABELS,
      '"',
      "'",
      "\\",
      ",",
      ":",
      "=",
      "fd=3",
      "suid",
      "\0",
      "\n",
      " ",
      "s0",
      "c1",
      "é",
      "-",
      ".",
    ),
    fc.string({ unit: "binary", maxLength: 8 }),
  );
  const hostile = fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join(""));
  fc.assert(
    fc.property(hostile, fc.boolean(), (text, quoted) => {
      const label = seLinuxContextIn(`context=${quoted ? `"${text}"` : text}`);
      if (label === undefined) return;
      assert.match(label, /^[\w.:,-]+$/);
      assert.ok(label.length <= 1024 && isSeLinuxContext(label));
      // Every part after a comma is a category: none is an option of its own.
      for (const part of label.split(",").slice(1))
        assert.match(part, /^c\d+(?:\.c\d+)?(?:-s\d+(?::c\d+(?:\.c\d+)?)?)?$/);
    }),
    { numRuns: 2000 },
  );
});

test("labels of the policy's form are all taken", () => {
  const name = fc.stringMatching(/^[a-z]\w{0,20}$/);
  const number = fc.integer({ min: 0, max: 1023 });
  const level = fc
    .tuple(fc.integer({ min: 0, max: 15 }), fc.array(number, { maxLength: 5 }))
    .map(([s, cs]) => `s${s}${cs.length === 0 ? "" : `:${cs.map((c) => `c${c}`).join(",")}`}`);
  fc.assert(
    fc.property(name, name, name, level, fc.option(level), (user, role, type, low, high) => {
      const label = [user, role, type, high === null ? low : `${low}-${high}`].join(":");
      assert.equal(seLinuxContextIn(`context="${label}"`), label);
    }),
  );
});

test("a refusal takes no longer for a long flag than for a short one of the same kind", () => {
  // A pattern that tries its parts in several ways would never end here.
  assert.equal(seLinuxContextIn(`context="u:r:t:s0:c1${",c1".repeat(100_000)}!"`), undefined);
  assert.equal(isSeLinuxContext(`u:r:t:s0:c${"1".repeat(1000)}!`), false);
});
