/** A copy of the checkout in which the code can be changed: the files that git knows, with the packages of the original. */
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
import type { Mutation } from "./table.ts";

export const root = fileURLToPath(new URL("../..", import.meta.url));

/** Where the piece of a mutation begins. Throws unless it is in its file exactly once. */
export function findPiece({ name, file, search }: Mutation, text: string): number {
  const at = text.indexOf(search);
  if (at >= 0 && text.indexOf(search, at + 1) < 0) return at;
  const often = at < 0 ? "not there any more" : "there more than once";
  throw new Error(
    `mutation ${name}: what it replaces in ${file} is ${often}; bring test/mutations/table.ts up to date`,
  );
}

export interface TestRun {
  readonly passed: boolean;
  /** Names of the tests that failed. */
  readonly failed: readonly string[];
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
    const parent = mkdtempSync(join(tmpdir(), "mutations-"));
    chmodSync(parent, 0o711); // tests act as other users below it
    const checkout = new Checkout(join(parent, "checkout"), join(parent, "scratch"));
    const { stdout, status } = spawnSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
      cwd: root,
      encoding: "utf8",
    });
    if (status !== 0) throw new Error("mutations are tried in a copy of a git checkout, and this is none");
    for (const file of stdout.split("\0").filter((name) => name !== "" && existsSync(join(root, name)))) {
      mkdirSync(dirname(join(checkout.directory, file)), { recursive: true });
      copyFileSync(join(root, file), join(checkout.directory, file));
    }
    symlinkSync(join(root, "node_modules"), join(checkout.directory, "node_modules"));
    cpSync(join(root, "native/build"), join(checkout.directory, "native/build"), { recursive: true });
    mkdirSync(checkout.#scratch, { mode: 0o711 });
    return checkout;
  }

  /** Applies it; disposing takes it back. */
  mutate(mutation: Mutation): Disposable {
    const path = join(this.directory, mutation.file);
    const text = readFileSync(path, "utf8");
    const at = findPiece(mutation, text);
    writeFileSync(path, text.slice(0, at) + mutation.replace + text.slice(at + mutation.search.length));
    const isNative = mutation.file.startsWith("native/") && /\.[ch]$/.test(mutation.file);
    if (isNative) this.#compile();
    return {
      [Symbol.dispose]: () => {
        writeFileSync(path, text);
        if (isNative)
          copyFileSync(join(root, "native/build/famfs.node"), join(this.directory, "native/build/famfs.node"));
      },
    };
  }

  #compile(): void {
    // What a mutation leaves unused is not what it is about.
    const env = { ...process.env, CFLAGS: "-Wno-error" };
    const { status } = spawnSync(process.execPath, ["native/build.mjs"], {
      cwd: this.directory,
      env,
      stdio: "inherit",
    });
    if (status !== 0) throw new Error("the mutated addon does not compile");
  }

  /** Runs test files in a mount namespace of their own. `late`: a run that hangs has failed, too. */
  async test(files: readonly string[], timeoutMs: number): Promise<TestRun> {
    const started = performance.now();
    const namespace = process.geteuid?.() === 0 ? ["--mount", "--propagation", "private"] : ["-Urm"];
    const options = ["--test", "--test-reporter=tap", "--test-concurrency=2", `--test-timeout=${timeoutMs}`];
    const command = [...namespace, process.execPath, "--disable-warning=ExperimentalWarning", ...options, ...files];
    const child = spawn("unshare", command, {
      cwd: this.directory,
      env: { ...process.env, TMPDIR: this.#scratch },
      stdio: ["ignore", "pipe", "ignore"],
      detached: true,
    });
    let output = "";
    child.stdout.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
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
    const failed = names.filter((name) => !name.endsWith(".test.ts"));
    return { passed: status === 0, failed, seconds: (performance.now() - started) / 1000 };
  }

  [Symbol.dispose](): void {
    rmSync(dirname(this.directory), { recursive: true, force: true });
  }
}
