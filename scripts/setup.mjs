// Prepares a checkout and, after `--`, runs a command in it on the project's own Node.
//
// Plain JavaScript, because it is the one file that runs on whatever Node the machine has (20 or newer):
// it installs the locked dependencies, Node 24 among them, and compiles the native addon. Both steps are
// skipped when their inputs have not changed since the last run.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const stamps = join(root, "node_modules", ".famfs-csi");

/** SHA-256 over the contents of `files`, so that a changed input is noticed whatever its time stamp says. */
function digest(files) {
  const hash = createHash("sha256");
  for (const file of files) hash.update(file).update(readFileSync(join(root, file)));
  return hash.digest("hex");
}

function upToDate(name, inputs, output) {
  const stamp = join(stamps, name);
  return existsSync(join(root, output)) && existsSync(stamp) && readFileSync(stamp, "utf8") === digest(inputs);
}

function run(what, command, args) {
  process.stderr.write(`famfs-csi setup: ${what}\n`);
  const result = spawnSync(command, args, { cwd: root, stdio: ["ignore", 2, 2] });
  if (result.status === 0) return;
  process.stderr.write(`famfs-csi setup: ${what} failed (${command} ${args.join(" ")})\n`);
  if (result.error?.code === "ENOENT") {
    process.stderr.write(
      `famfs-csi setup: "${command}" is not installed; on Debian and Ubuntu: apt-get install ${command === "cc" ? "gcc libc6-dev" : command}\n`,
    );
  }
  process.exit(1);
}

function step(name, inputs, output, action) {
  if (upToDate(name, inputs, output)) return;
  action();
  mkdirSync(stamps, { recursive: true });
  writeFileSync(join(stamps, name), digest(inputs));
}

/** Directory used as a lock (mkdir is atomic), so that two commands started together do not set up twice. */
function locked(action) {
  const lock = join(root, ".setup");
  const deadline = Date.now() + 10 * 60_000;
  for (;;) {
    try {
      mkdirSync(lock);
      break;
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
      let age = 0;
      try {
        age = Date.now() - statSync(lock).mtimeMs;
      } catch {
        continue; // released between the two calls
      }
      if (age > 10 * 60_000)
        rmdirSync(lock); // its owner was killed
      else if (Date.now() > deadline)
        throw new Error(`${lock} is held by another set-up; remove it if none is running`);
      else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
    }
  }
  const release = () => existsSync(lock) && rmdirSync(lock);
  process.on("exit", release);
  action();
  release();
  process.off("exit", release);
}

const nativeInputs = readdirSync(join(root, "native"))
  .filter((file) => /\.(c|h|mjs)$/.test(file))
  .sort()
  .map((file) => `native/${file}`);
const npmInputs = ["package-lock.json", ".npmrc"];

export function setUp() {
  if (
    upToDate("npm", npmInputs, "node_modules/.bin/tsc") &&
    upToDate("native", nativeInputs, "native/build/famfs.node")
  )
    return;
  locked(() => {
    step("npm", npmInputs, "node_modules/.bin/tsc", () =>
      // Not `npm ci`: it refuses a lock file without the optional packages of platforms that a registry does not
      // carry. With --no-save the lock file still decides every version and is not written.
      run("installing the locked dependencies", "npm", [
        "install",
        "--no-save",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
      ]),
    );
    step("native", nativeInputs, "native/build/famfs.node", () =>
      run("compiling the native addon", process.execPath, ["native/build.mjs"]),
    );
    giveBack();
  });
}

/** Under sudo what was made in the checkout stays its owner's. */
function giveBack() {
  const { SUDO_UID: uid, SUDO_GID: gid } = process.env;
  if (process.getuid?.() !== 0 || uid === undefined || statSync(root).uid !== Number(uid)) return;
  spawnSync("chown", ["-R", `${uid}:${gid ?? uid}`, "node_modules", "native/build"], { cwd: root, stdio: "inherit" });
}

/** Runs `command` with the project's own binaries first on PATH and ends this process as it ended. */
export function runInProject(command, args, options = {}) {
  // Halves the start of a program and saves 20 MB of each process: types are stripped once. Under sudo it would leave
  // root's files in somebody's checkout.
  const compileCache = process.env.SUDO_UID === undefined ? { NODE_COMPILE_CACHE: join(stamps, "compiled") } : {};
  // npm 9 links no node into .bin, so the package that carries it is named itself.
  const bins = [join(root, "node_modules", `node-linux-${process.arch}`, "bin"), join(root, "node_modules", ".bin")];
  const local = bins.map((bin) => join(bin, command)).find((file) => existsSync(file));
  const child = spawn(local ?? command, args, {
    stdio: "inherit",
    env: { ...compileCache, ...process.env, PATH: [...bins, process.env.PATH ?? ""].join(delimiter) },
    ...options,
  });
  // A terminal sends Ctrl-C to the whole process group, so the child has it already; a signal sent to this
  // process alone is passed on.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, () => (signal === "SIGINT" && process.stdin.isTTY ? undefined : child.kill(signal)));
  }
  child.on("error", (error) => {
    process.stderr.write(`famfs-csi: cannot run ${command}: ${error.message}\n`);
    process.exit(1);
  });
  child.on("exit", (status, signal) => process.exit(status ?? 128 + (constants.signals[signal] ?? 0)));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  setUp();
  const [dashes, command, ...args] = process.argv.slice(2);
  if (dashes === "--" && command !== undefined) runInProject(command, args, { cwd: root });
}
