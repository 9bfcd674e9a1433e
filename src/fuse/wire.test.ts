import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { Struct } from "../base/index.ts";
import { ERRNO, errnoOf, FUSE_ERRNO } from "./errno.ts";
import { INIT_BIT } from "./flags.ts";
import { HANDLERS } from "./handlers.ts";
import { OPCODE_NAMES, OPCODES } from "./opcode.ts";
import * as wire from "./wire.ts";

const compiler = process.env["CC"] ?? "cc";
const probe = spawnSync(compiler, ["-E", "-include", "linux/fuse.h", "-x", "c", "/dev/null"], { stdio: "ignore" });
const skip = probe.status === 0 || process.env["CI"] === "true" ? false : "needs a C compiler and <linux/fuse.h>";

/** The minor whose header has them first; older headers are compared without them. */
const SINCE: Record<string, number> = {
  "fuse_init_out.max_stack_depth": 40,
  "fuse_init_out.request_timeout": 43,
  fuse_statx_in: 39,
  STATX: 39,
  COPY_FILE_RANGE_64: 45,
  CREATE_SUPP_GROUP: 39,
  DIRECT_IO_ALLOW_MMAP: 39,
  PASSTHROUGH: 40,
  NO_EXPORT_SUPPORT: 40,
  HAS_RESEND: 40,
  ALLOW_IDMAP: 41,
  OVER_IO_URING: 42,
};

function guarded(name: string, line: string): string {
  const since = SINCE[name] ?? SINCE[name.split(".")[0] ?? ""];
  return since === undefined ? line : `#if FUSE_KERNEL_MINOR_VERSION >= ${since}\n${line}\n#endif`;
}

/** Ours write nested structures out, cut them, or name them otherwise. */
const RENAMED: Record<string, string> = { fuse_statfs_out: "fuse_kstatfs" };
const CUT = new Map([["fuse_setxattr_in", 8]]); // FUSE_COMPAT_SETXATTR_IN_SIZE
const NESTED: Record<string, Record<string, string>> = {
  fuse_lk_in: { start: "lk.start", end: "lk.end", type: "lk.type", pid: "lk.pid" },
};

function compileAndRun(program: string): string {
  const directory = mkdtempSync(join(tmpdir(), "famfs-wire-"));
  try {
    writeFileSync(join(directory, "probe.c"), program);
    execFileSync(compiler, ["-o", join(directory, "probe"), join(directory, "probe.c")], { stdio: "pipe" });
    return execFileSync(join(directory, "probe"), { encoding: "utf8" });
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test("structure tables agree with the system's <linux/fuse.h>", { skip }, () => {
  const structs = Object.values(wire).filter((value) => value instanceof Struct);
  const lines: string[] = [];
  const expected = new Map<string, number>();
  for (const struct of structs) {
    const name = RENAMED[struct.name] ?? struct.name;
    // A structure whose extension we do not negotiate arrives shorter than it is.
    const size = CUT.get(struct.name) ?? `sizeof(struct ${name})`;
    lines.push(guarded(struct.name, `printf("%s %zu\\n", "${struct.name}", (size_t)${size});`));
    expected.set(struct.name, struct.size);
    for (const [field, spec] of Object.entries(struct.fields)) {
      if (spec.type === "pad") continue;
      const member = NESTED[struct.name]?.[field] ?? field;
      const key = `${struct.name}.${field}`;
      lines.push(guarded(key, `printf("%s %zu\\n", "${key}", offsetof(struct ${name}, ${member}));`));
      expected.set(key, spec.at);
    }
  }
  assert.deepEqual(wrong(expected, lines), []);
});

test("opcodes and INIT bits agree with the system's <linux/fuse.h>", { skip }, () => {
  const lines: string[] = [];
  const expected = new Map<string, number>();
  for (const [name, row] of Object.entries(OPCODES)) {
    lines.push(guarded(name, `printf("%s %d\\n", "${name}", FUSE_${name});`));
    expected.set(name, row.opcode);
  }
  for (const [name, bit] of Object.entries(INIT_BIT)) {
    lines.push(guarded(name, `printf("%s %d\\n", "bit-${name}", __builtin_ctzll(FUSE_${name}));`));
    expected.set(`bit-${name}`, bit);
  }
  assert.deepEqual(wrong(expected, lines), []);
});

/** What the compiler says otherwise than `expected`, and what it should have said and did not. */
function wrong(expected: Map<string, number>, lines: string[]): string[] {
  const source = [
    "#include <linux/fuse.h>",
    "#include <stddef.h>",
    "#include <stdio.h>",
    "#if FUSE_KERNEL_MINOR_VERSION < 40",
    "#define backing_id padding", // its name before passthrough
    "#endif",
    `int main(void) {\n${lines.join("\n")}\nreturn 0; }`,
  ].join("\n");
  const findings: string[] = [];
  const seen = new Set<string>();
  for (const line of compileAndRun(source).trim().split("\n")) {
    const [name = "", value = ""] = line.split(" ");
    seen.add(name);
    if (expected.get(name) !== Number(value)) findings.push(`${name}: ${value}, ours ${expected.get(name)}`);
  }
  for (const name of expected.keys()) {
    const plain = name.replace(/^bit-/, "");
    const late = SINCE[plain] ?? SINCE[plain.split(".")[0] ?? ""];
    if (!seen.has(name) && late === undefined) findings.push(`${name}: missing`);
  }
  return findings;
}

test("every error code has an errno the kernel accepts in a reply", () => {
  for (const [code, name] of Object.entries(FUSE_ERRNO)) {
    const value = ERRNO[name];
    assert.ok(value > 0 && value < 512 && value !== ERRNO.ENOSYS, `${code} is ${name}`);
  }
});

test("an errno of the system passes only when a file system may return it", () => {
  const system = (errno: string) =>
    Object.assign(new Error(errno), { name: "FamfsError", code: "SYSTEM", details: { errno, syscall: "x" } });
  assert.equal(errnoOf(system("ENFILE")), ERRNO.ENFILE);
  assert.equal(errnoOf(system("ENOSYS")), ERRNO.EIO);
  assert.equal(errnoOf(system("NONSENSE")), ERRNO.EIO);
  assert.equal(errnoOf(new TypeError("a bug")), ERRNO.EIO);
  assert.equal(errnoOf("thrown text"), ERRNO.EIO);
});

test("the opcode table and those who act on it agree", () => {
  for (const [name, row] of Object.entries(OPCODES)) {
    const handler = HANDLERS[name as keyof typeof OPCODES];
    assert.equal(OPCODE_NAMES[row.opcode], name);
    if ("ignored" in handler) assert.equal(row.reply, "never", name);
  }
});
