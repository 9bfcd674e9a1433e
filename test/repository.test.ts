/** What holds for the repository as a whole rather than for one file of it. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, matchesGlob } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const listing = spawnSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
  cwd: root,
  encoding: "utf8",
});
const noCheckout = listing.status === 0 ? false : "not a git checkout";
const files = listing.stdout.split("\0").filter((file) => file !== "" && existsSync(join(root, file)));
const read = (file: string) => readFileSync(join(root, file), "utf8");

test("only tests look outside the repository", { skip: noCheckout }, () => {
  const outside = files
    .filter(
      (file) =>
        !file.startsWith("test/") &&
        !file.endsWith(".test.ts") &&
        !file.includes("/testing/") &&
        /\.(ts|mjs|md|json|c|h|proto|yaml)$/.test(file),
    )
    .filter((file) => /\.\.\/shared\b(?!-)/.test(read(file)));
  assert.deepEqual(outside, []);
});

test("the lock file names no registry", () => {
  assert.ok(!read("package-lock.json").includes('"resolved"'));
});

test("every dependency has an exact version", () => {
  const { dependencies, devDependencies, optionalDependencies } = JSON.parse(read("package.json"));
  for (const [name, version] of Object.entries({ ...dependencies, ...devDependencies, ...optionalDependencies })) {
    assert.match(String(version), /^\d+\.\d+\.\d+/, name);
  }
});

test("every test file is in a suite of test/run.ts, or has a command of its own", { skip: noCheckout }, () => {
  const suites = [...read("test/run.ts").matchAll(/\bfiles: \[([^\]]*)\]/g)].map(([, list = ""]) => list);
  const commands = Object.values(JSON.parse(read("package.json")).scripts).map(String);
  const patterns = [...suites, ...commands].flatMap((text) =>
    [...text.matchAll(/["']([^"']*\.test\.ts)["']/g)].map(([, pattern = ""]) => pattern),
  );
  const inNone = files.filter(
    (file) => file.endsWith(".test.ts") && !patterns.some((pattern) => matchesGlob(file, pattern)),
  );
  assert.deepEqual(inNone, []);
});

test("links between documents lead to files", { skip: noCheckout }, () => {
  const broken = files
    .filter((file) => file.endsWith(".md"))
    .flatMap((file) =>
      [...read(file).matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)[^)]*\)/g)]
        .map((match) => match[1] ?? "")
        .filter((target) => !existsSync(join(root, dirname(file), target)))
        .map((target) => `${file}: ${target}`),
    );
  assert.deepEqual(broken, []);
});
