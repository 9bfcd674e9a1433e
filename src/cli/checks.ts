import { setTimeout as delay } from "node:timers/promises";
import { FamfsError, messageOf } from "../base/index.ts";
import type { NodePlugin } from "../node/index.ts";
import type { Store } from "../state/index.ts";

/** What must work, by name. A check throws why it does not. */
export type Checks = Readonly<Record<string, () => Promise<void>>>;

export interface CheckResult {
  readonly name: string;
  /** Undefined when all is well. */
  readonly problem: string | undefined;
}

const TIMEOUT_MS = 3_000;

/** Runs all of them at once; one that gives no answer in time has failed. */
export function runChecks(checks: Checks, timeoutMs = TIMEOUT_MS): Promise<CheckResult[]> {
  return Promise.all(Object.entries(checks).map(([name, check]) => runCheck(name, check, timeoutMs)));
}

async function runCheck(name: string, check: () => Promise<void>, timeoutMs: number): Promise<CheckResult> {
  const answered = new AbortController();
  const late = delay(timeoutMs, `no answer within ${timeoutMs} ms`, { signal: answered.signal }).catch(() => undefined);
  try {
    return { name, problem: await Promise.race([check().then(() => undefined), late]) };
  } catch (error) {
    return { name, problem: messageOf(error) };
  } finally {
    answered.abort();
  }
}

/** The store answers. What it says does not matter. */
export function storeCheck(store: Store): () => Promise<void> {
  return async () => void (await store.get("nodes", "readiness"));
}

/** What a node plugin needs to be of use. */
export function nodeChecks(node: NodePlugin, store: Store): Checks {
  return {
    store: storeCheck(store),
    devices: async () => {
      const { deviceProblems } = node;
      if (deviceProblems.length > 0) throw new FamfsError("DEVICE_NOT_FOUND", deviceProblems.join("; "));
    },
    "FUSE server": () => node.answers(),
    heartbeat: async () => {
      if (!node.holdsLease) throw new FamfsError("LEASE_LOST", "the lease of this node could not be renewed in time");
    },
  };
}
