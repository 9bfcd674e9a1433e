/**
 * `npm run test:asan`: the tests of the addon, and of what uses it most, with the addon compiled for AddressSanitizer
 * and UndefinedBehaviorSanitizer, in a copy of the checkout. What one of them reports ends the process, and fails the
 * test.
 */
import { spawnSync } from "node:child_process";
import { globSync } from "node:fs";
import { parseArgs } from "node:util";
import { Checkout, root } from "./support/checkout.ts";

const TIMEOUT_MS = 600_000;
const SANITIZED = ["-O1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
/** Not src/fuse/mount.test.ts: dd, which it runs, does not survive AddressSanitizer's allocator. */
const TESTS = ["native/*.test.ts", "src/media/*.test.ts", "src/fuse/{kernel-traps,successor,session,served}*.test.ts"];
/** V8 never frees all it has; our handler takes SIGBUS, and V8 SIGSEGV. */
const OPTIONS = ["detect_leaks=0", "handle_segv=0", "handle_sigbus=0", "allow_user_segv_handler=1"];
const REPORT = /==\d+==ERROR: AddressSanitizer[\s\S]{0,4000}|[^\n]*runtime error:[^\n]*/;

const { positionals } = parseArgs({ allowPositionals: true });
const patterns = positionals.length > 0 ? positionals : TESTS;
const files = globSync(patterns, { cwd: root }).sort();

const found = spawnSync(process.env["CC"] ?? "cc", ["-print-file-name=libasan.so"], { encoding: "utf8" });
const library = found.stdout?.trim() ?? "";
if (!library.startsWith("/")) {
  process.stderr.write("the C compiler has no libasan: install gcc\n");
  process.exit(1);
}

using checkout = Checkout.copy();
checkout.compile(SANITIZED);
const environment = { LD_PRELOAD: library, ASAN_OPTIONS: OPTIONS.join(":"), UBSAN_OPTIONS: "print_stacktrace=1" };
const { passed, failed, output, seconds } = await checkout.test(files, { timeoutMs: TIMEOUT_MS, environment });
const report = REPORT.exec(output)?.[0];
if (report !== undefined) process.stdout.write(`${report}\n`);
if (!passed) process.stdout.write(`failed: ${failed.join("; ") || output}\n`);
process.stdout.write(
  `${files.length} test files with sanitizers: ${passed ? "passed" : "failed"}, ${seconds.toFixed(0)} s\n`,
);
process.exitCode = passed && report === undefined ? 0 : 1;
