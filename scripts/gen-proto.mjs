// Generates src/csi/gen from proto/*.proto: `node scripts/gen-proto.mjs`, or with --check, fails when the checked-in
// files differ from what the generator makes now.
//
// proto-loader-gen-types knows no `longs: BigInt` (which proto-loader itself does), so its 64-bit type is replaced
// here: by `bigint` in what is received, by `bigint | number | string` in what is sent.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const target = join(root, "src", "csi", "gen");
const OPTIONS = ["--defaults", "--oneofs", "--enums=String", "--grpcLib=@grpc/grpc-js", "--importFileExtension=.ts"];
const SOURCES = ["csi.proto", "pluginregistration.proto"];

function filesBelow(directory) {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)))
    .sort();
}

/** Generates into a fresh directory beside the target, so that a failure leaves the old files alone. */
function generate() {
  const output = mkdtempSync(join(dirname(target), ".gen-"));
  const generator = join(root, "node_modules", "@grpc", "proto-loader", "build", "bin", "proto-loader-gen-types.js");
  const result = spawnSync(
    process.execPath,
    [generator, ...OPTIONS, "-O", output, "-I", join(root, "proto"), "--", ...SOURCES],
    { cwd: root, encoding: "utf8" },
  );
  if (result.status !== 0) throw new Error(`proto-loader-gen-types failed: ${result.stderr}`);
  const version = JSON.parse(
    readFileSync(join(root, "node_modules", "@grpc", "proto-loader", "package.json"), "utf8"),
  ).version;
  const header = `// Generated from proto/ by @grpc/proto-loader ${version} (${OPTIONS.join(" ")}, longs: BigInt). Do not edit.\n`;
  for (const file of filesBelow(output)) {
    const text = readFileSync(join(output, file), "utf8")
      .replace(/^import type \{ Long \} from '@grpc\/proto-loader';\n/m, "")
      .replaceAll("(number | string | Long)", "(bigint | number | string)")
      .replaceAll("(Long)", "(bigint)")
      .replaceAll(root, "");
    writeFileSync(join(output, file), header + text);
  }
  return output;
}

const output = generate();
try {
  if (process.argv.includes("--check")) {
    const differ = [...new Set([...filesBelow(output), ...filesBelow(target)])].filter((file) => {
      try {
        return readFileSync(join(output, file), "utf8") !== readFileSync(join(target, file), "utf8");
      } catch {
        return true;
      }
    });
    if (differ.length > 0) {
      process.stderr.write(`src/csi/gen is out of date, run "npm run gen-proto": ${differ.join(", ")}\n`);
      process.exitCode = 1;
    }
  } else {
    rmSync(target, { recursive: true, force: true });
    renameSync(output, target);
  }
} finally {
  rmSync(output, { recursive: true, force: true });
}
