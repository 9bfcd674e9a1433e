/** Runs the famfs-csi program as a person would, from the checkout. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

export interface Ended {
  readonly status: number | NodeJS.Signals;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly child: ChildProcess;
  /** What it has said so far on both outputs. */
  said(): string;
  readonly ended: Promise<Ended>;
  /** Asks it to stop, waits, and kills it when it does not. Throws unless it ended by itself. */
  stop(): Promise<Ended>;
}

const STOP_MS = 30_000;

export function startProgram(...args: string[]): Running {
  return startCommand([process.execPath, "--disable-warning=ExperimentalWarning", main, ...args]);
}

/** Anything that ends at SIGINT. */
export function startCommand(
  [program = "", ...args]: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Running {
  const child = spawn(program, args, {
    env: { ...process.env, ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on("data", (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const { promise: ended, resolve, reject } = Promise.withResolvers<Ended>();
  child.on("error", reject);
  child.on("close", (status, signal) => resolve({ status: status ?? signal ?? "SIGKILL", stdout, stderr }));
  return {
    child,
    said: () => stdout + stderr,
    ended,
    async stop() {
      child.kill("SIGINT");
      const clock = new AbortController();
      const late = setTimeout(STOP_MS, "late" as const, { signal: clock.signal }).catch(() => "late" as const);
      const first = await Promise.race([ended, late]);
      clock.abort();
      if (first !== "late") return first;
      child.kill("SIGKILL");
      throw new Error(`${program} ${args.join(" ")} did not end within ${STOP_MS} ms of SIGINT:\n${stdout}${stderr}`);
    },
  };
}

/** Runs a command to its end. */
export function runProgram(...args: string[]): Promise<Ended> {
  return startProgram(...args).ended;
}

/** The file system type mounted at `directory` last, or undefined. */
export function mountedAt(directory: string): string | undefined {
  const lines = readFileSync("/proc/self/mountinfo", "utf8").trim().split("\n");
  const line = lines.findLast((one) => one.split(" ")[4] === directory);
  return line?.split(" - ")[1]?.split(" ")[0];
}

export interface Mounted extends AsyncDisposable {
  readonly directory: string;
  readonly server: Running;
  /** Stops the server as Ctrl-C does and checks that the mount is gone. */
  unmount(): Promise<void>;
}

const MOUNT_MS = 30_000;

/** `famfs-csi mount DEVICE DIR` on a fresh directory; resolves when it is mounted. */
export async function mountDevice(device: string, ...options: string[]): Promise<Mounted> {
  const directory = mkdtempSync(join(tmpdir(), "mount-"));
  const server = startProgram("mount", ...options, device, directory);
  const clock = new AbortController();
  const ended = server.ended.then(({ status, stdout, stderr }) => {
    throw new Error(`famfs-csi mount ended with ${status}:\n${stdout}${stderr}`);
  });
  const mounted = (async () => {
    const deadline = performance.now() + MOUNT_MS;
    while (mountedAt(directory) === undefined) {
      if (performance.now() > deadline) throw new Error(`not mounted after ${MOUNT_MS} ms:\n${server.said()}`);
      await setTimeout(20, undefined, { signal: clock.signal });
    }
  })();
  try {
    await Promise.race([mounted, ended]);
  } catch (error) {
    clock.abort();
    await mounted.catch(() => undefined);
    server.child.kill("SIGKILL");
    rmdirSync(directory);
    throw error;
  }
  ended.catch(() => undefined);

  let unmounted: Promise<void> | undefined;
  const unmount = () => {
    unmounted ??= (async () => {
      const { status } = await server.stop();
      if (mountedAt(directory) !== undefined) throw new Error(`${directory} is still mounted:\n${server.said()}`);
      rmdirSync(directory);
      if (status !== 0) throw new Error(`famfs-csi mount ended with ${status}:\n${server.said()}`);
    })();
    return unmounted;
  };
  return { directory, server, unmount, [Symbol.asyncDispose]: unmount };
}

export interface SimulatedDevice extends Disposable {
  readonly path: string;
  /** As a command line takes it. */
  readonly url: string;
}

/** A sparse file that stands for a devdax device; does not exist until somebody uses it. */
export function simulatedDevice(size: string): SimulatedDevice {
  const directory = mkdtempSync(join(tmpdir(), "device-"));
  const path = join(directory, "device");
  return {
    path,
    url: `file://${path}?size=${size}`,
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  };
}
