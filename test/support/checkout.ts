/**
 * A copy of the checkout in which the code can be changed: the files that git knows, with the packages of the original.
 */
import { spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
export const root = fileURLToPath(new URL("../..", import.meta.url));

/** One piece of a file for another. */
export interface Replacement {
  readonly file: string;
  readonly search: string;
  readonly replace: string;
}

export interface TestRun {
  readonly passed: boolean;
  /** Names of the tests that failed. */
  readonly failed: readonly string[];
  readonly output: string;
  readonly seconds: number;
}

export class Checkout implements Disposable {
  readonly directory: string;
  readonly #scratch: string;

  private constructor(directory: string, scratch: string) {
    this.directory = directory;
    this.#scratch = scratch;
  }

  static copy(): Checkout {
    const parent = mkdtempSync(join(tmpdir(), "checkout-"));
    chmodSync(parent, 0o711); // tests act as other users below it
    const checkout = new Checkout(join(parent, "checkout"), join(parent, "scratch"));
    const { stdout, status } = spawnSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
      cwd: root,
      encoding: "utf8",
    });
    if (status !== 0) throw new Error("this makes a copy of a git checkout, and runs in none");
    for (const file of stdout.split("\0").filter((name) => name !== "" && existsSync(join(root, name)))) {
      mkdirSync(dirname(join(checkout.directory, file)), { recursive: true });
      copyFileSync(join(root, file), join(checkout.directory, file));
    }
    symlinkSync(join(root, "node_modules"), join(checkout.directory, "node_modules"));
    const vectors = join(root, "../shared/vectors");
    if (existsSync(vectors)) {
      mkdirSync(join(parent, "shared"), { mode: 0o755 });
      symlinkSync(vectors, join(parent, "shared/vectors"));
    }
    cpSync(join(root, "native/build"), join(checkout.directory, "native/build"), { recursive: true });
    mkdirSync(checkout.#scratch, { mode: 0o711 });
    return checkout;
  }

  /** Disposing takes it back. Throws unless the piece is in its file exactly once. */
  change({ file, search, replace }: Replacement): Disposable {
    const path = join(this.directory, file);
    const text = readFileSync(path, "utf8");
    const at = findPiece(text, search);
    if (at === undefined) throw new Error(`${file} does not have ${JSON.stringify(search)} exactly once`);
    writeFileSync(path, text.slice(0, at) + replace + text.slice(at + search.length));
    const isNative = file.startsWith("native/") && /\.[ch]$/.test(file);
    // What a change leaves unused is not what it is about.
    if (isNative) this.compile(["-Wno-error"]);
    return {
      [Symbol.dispose]: () => {
        writeFileSync(path, text);
        const addon = "native/build/famfs.node";
        if (isNative) copyFileSync(join(root, addon), join(this.directory, addon));
      },
    };
  }

  /** The addon, with further options of the compiler. */
  compile(options: readonly string[]): void {
    const env = { ...process.env, CFLAGS: options.join(" ") };
    const { status } = spawnSync(process.execPath, ["native/build.mjs"], {
      cwd: this.directory,
      env,
      stdio: "inherit",
    });
    if (status !== 0) throw new Error("the addon does not compile");
  }

  /** Runs test files in a mount namespace of their own. A run that takes longer than `timeoutMs` has failed, too. */
  async test(
    files: readonly string[],
    { timeoutMs, environment = {} }: { timeoutMs: number; environment?: Readonly<Record<string, string>> },
  ): Promise<TestRun> {
    const started = performance.now();
    const namespace = process.geteuid?.() === 0 ? ["--mount", "--propagation", "private"] : ["-Urm"];
    const options = ["--test", "--test-reporter=tap", "--test-concurrency=2", `--test-timeout=${timeoutMs}`];
    const command = [...namespace, process.execPath, "--disable-warning=ExperimentalWarning", ...options, ...files];
    const child = spawn("unshare", command, {
      cwd: this.directory,
      env: { ...process.env, ...environment, TMPDIR: this.#scratch },
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk: Buffer) => {
        output += chunk.toString();
      });
    }
    const { promise, resolve } = Promise.withResolvers<number | null>();
    child.on("close", resolve);
    const stop = () => {
      if (child.pid === undefined) return;
      try {
        process.kill(-child.pid, "SIGKILL");
      } catch {
        // it has ended
      }
    };
    const timer = setTimeout(stop, timeoutMs);
    const status = await promise;
    clearTimeout(timer);
    stop();
    const names = [...output.matchAll(/^ *not ok \d+ - (.*)$/gm)].map(([, name = ""]) => name);
    const tests = names.filter((name) => !name.endsWith(".test.ts"));
    const failed = tests.length > 0 ? tests : names;
    return { passed: status === 0, failed, output, seconds: (performance.now() - started) / 1000 };
  }

  [Symbol.dispose](): void {
    rmSync(dirname(this.directory), { recursive: true, force: true });
  }
}

/** Where `piece` begins; undefined unless it is there exactly once. */
export function findPiece(text: string, piece: string): number | undefined {
  const at = text.indexOf(piece);
  return at < 0 || text.indexOf(piece, at + 1) >= 0 ? undefined : at;
}
