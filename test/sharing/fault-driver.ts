/** Stops, wakes and kills plugins and FUSE servers at random, and puts right what an orchestrator would. */
import { readdir } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { messageOf } from "../../src/base/index.ts";
import type { AccessMode } from "../../src/csi/index.ts";
import type { NodeProcess, Part } from "../support/nodes.ts";
import { mountedAt } from "../support/program.ts";
import { type Fault, type FaultKind, now } from "./history.ts";
import type { Random } from "./random.ts";

/** A lease has 15 s; its taker waits some more. */
const LONG_MS = { least: 19_000, most: 24_000 };
const SHORT_MS = { least: 100, most: 3_000 };
const GAP_MS = { least: 500, most: 5_000 };
const BY_ITSELF_MS = 20_000;
const REMOUNT_MS = 90_000;
const RETRY_MS = 100;

/** Short ones are what happens on any busy machine; the long ones take a third of a minute each. */
const WEIGHTS: Readonly<Record<FaultKind, number>> = {
  "stop server": 5,
  "stop plugin": 5,
  "stop node": 3,
  "stop server long": 1,
  "stop plugin long": 1,
  "stop node long": 1,
  "kill server": 2,
  "kill plugin": 2,
};

const BRIEF = { ...WEIGHTS, "stop server long": 0, "stop plugin long": 0, "stop node long": 0 };
/** A long one that begins later would be most of the run. */
const TIME_FOR_LONG_MS = 10_000;

export interface FaultSettings {
  readonly nodes: readonly NodeProcess[];
  readonly volumeId: string;
  readonly mode: AccessMode;
  readonly random: Random;
  /** No fault begins after it. */
  readonly until: number;
  readonly tell: (line: string) => void;
}

/** Resolves when the last fault is over and every node works again. */
export async function driveFaults({ random, until, ...settings }: FaultSettings): Promise<Fault[]> {
  const faults: Fault[] = [];
  for (;;) {
    await delay(random.between(GAP_MS.least, GAP_MS.most));
    if (now() >= until) return faults;
    const node = random.pick(settings.nodes);
    const kind = random.weighted(until - now() > TIME_FOR_LONG_MS ? WEIGHTS : BRIEF);
    const range = kind.endsWith("long") ? LONG_MS : SHORT_MS;
    const lengthMs = random.between(range.least, range.most);
    const fault: Fault = { node: node.nodeId, kind, start: now(), end: Number.POSITIVE_INFINITY };
    faults.push(fault);
    settings.tell(`${kind} of ${node.nodeId}`);
    if (kind === "kill server") {
      node.killServer();
      await recover(node, settings);
    } else if (kind === "kill plugin") {
      await node.replacePlugin();
      await recover(node, settings);
    } else {
      using _frozen = node.freeze(kind.split(" ")[1] as Part);
      await delay(lengthMs);
    }
    fault.end = now();
    settings.tell(`over after ${Math.round(fault.end - fault.start)} ms`);
  }
}

/**
 * Until the volume is there again for new pods: by itself, or, when that takes long, because it is unpublished, staged
 * and published again.
 */
async function recover(node: NodeProcess, { volumeId, mode }: Pick<FaultSettings, "volumeId" | "mode">): Promise<void> {
  const started = now();
  while (now() < started + BY_ITSELF_MS) {
    if (await answers(node.target(volumeId))) return;
    await delay(RETRY_MS);
  }
  for (;;) {
    try {
      await node.unmount(volumeId);
      await node.mount(volumeId, mode);
      if (mountedAt(node.target(volumeId)) !== undefined) return;
    } catch (error) {
      // Clients may still have it open; calls may meet one another.
      if (now() > started + REMOUNT_MS) throw new Error(`${node.nodeId} does not mount again: ${messageOf(error)}`);
    }
    await delay(RETRY_MS);
  }
}

async function answers(directory: string): Promise<boolean> {
  try {
    return (await readdir(directory)).length > 0;
  } catch {
    return false;
  }
}
