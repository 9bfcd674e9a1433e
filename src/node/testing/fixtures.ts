import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { FamfsError, type Logger, silentLogger } from "../../base/index.ts";
import { EmbeddedStore, type FamfsVolume, type Store, UNTOUCHED } from "../../state/index.ts";
import { Devices } from "../devices.ts";

/** Silent, unless FAMFS_TEST_LOG is set: for finding out why a test fails. */
export const testLogger: Logger = process.env["FAMFS_TEST_LOG"] === undefined ? silentLogger : stderrLogger({});

function stderrLogger(base: object): Logger {
  const log = (level: string) => (fields: object, message: string) =>
    console.error(level, message, { ...base, ...fields });
  return {
    debug: log("debug"),
    info: log("info"),
    warn: log("warn"),
    error: log("error"),
    child: (fields) => stderrLogger({ ...base, ...fields }),
  };
}

const cleanups = new WeakMap<TestContext, AsyncDisposableStack>();

/** What a test leaves to be undone, last first (hooks of node:test run first to last). */
export function cleanup(t: TestContext): AsyncDisposableStack {
  const present = cleanups.get(t);
  if (present !== undefined) return present;
  const stack = new AsyncDisposableStack();
  cleanups.set(t, stack);
  t.after(() => stack.disposeAsync());
  return stack;
}

/** The store, where `before` sees each call first: what it throws is what the store fails with. */
export function intercepted(store: Store, before: (call: string, kind: unknown) => void): Store {
  return new Proxy(store, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name);
      if (typeof member !== "function") return member;
      return (...args: unknown[]) => {
        before(String(name), args[0]);
        return (member as (...args: unknown[]) => unknown).apply(target, args);
      };
    },
  });
}

export async function scratchDirectory(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "famfs-node-"));
  cleanup(t).defer(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

export async function openStore(t: TestContext, directory: string): Promise<EmbeddedStore> {
  return cleanup(t).use(await EmbeddedStore.open({ stateDir: join(directory, "state") }));
}

export async function openDevices(
  t: TestContext,
  store: EmbeddedStore,
  device: string,
  options: { nodeId?: string; force?: boolean; fabric?: string } = {},
): Promise<Devices> {
  const { nodeId = "a", force = false, fabric = "rack1" } = options;
  const context = { store, nodeId, fabric, pool: "default", strict: true, logger: silentLogger };
  return cleanup(t).use(await Devices.open([{ device, force }], context));
}

/** A volume as the controller creates it: to be formatted by node a. */
export function newVolume(deviceUuid: string, changes: Partial<FamfsVolume> = {}): FamfsVolume {
  return {
    ...UNTOUCHED,
    csiName: "pvc-1",
    uuid: "11111111-2222-3333-4444-555555555555",
    adopted: false,
    pool: "default",
    fabric: "rack1",
    capacityBytes: 32 * 2 ** 20,
    regions: [{ deviceUuid, offset: 2 * 2 ** 20, length: 64 * 2 ** 20 }],
    regionGeneration: 1,
    parameters: {},
    phase: "Formatting",
    jobNode: "a",
    ...changes,
  };
}

/** `store`, failing at one of its calls about volumes: `failAt(n)` lets the n-th from now fail, once. */
export function failingStore(store: Store): { store: Store; failAt: (call: number) => void; failed: () => boolean } {
  let left = 0;
  let failed = false;
  const wrapped = intercepted(store, (name, kind) => {
    if (kind !== "volumes" || name === "watch" || left === 0 || --left > 0) return;
    failed = true;
    throw new FamfsError("STORE_UNAVAILABLE", "the store does not answer");
  });
  return {
    store: wrapped,
    failAt(call) {
      left = call;
      failed = false;
    },
    failed: () => failed,
  };
}

/** Waits for something that happens in the background; fails with `what` after 10 seconds. */
export async function eventually<T>(what: string, look: () => Promise<T | undefined> | T | undefined): Promise<T> {
  for (const until = performance.now() + 30_000; performance.now() < until; ) {
    const value = await look();
    if (value !== undefined && value !== false) return value;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`did not happen within 30 s: ${what}`);
}
