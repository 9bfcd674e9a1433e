import { createHash } from "node:crypto";
import { ERROR_CODES, type ErrorCode, type ErrorDetails, FamfsError } from "../base/index.ts";
import {
  type FamfsDevice,
  type FamfsVolume,
  type NodeLiveness,
  type StoredRecord,
  updateRecord,
  whyGone,
} from "../state/index.ts";
import type { ControllerContext } from "./context.ts";

/*
 * Formatting and erasing are done by a node that reaches the volume's device, because the controller cannot touch
 * memory. `jobNode` names it. A job is given to another node only when the first one is gone for good: one that is
 * merely silent may still be writing (promise 5).
 */

/**
 * A live node that reaches all `devices`; spread over nodes by the volume's name. One that was detached by force from
 * the volume (it is still in `staged`) may be about to die: rather another.
 */
export function chooseJobNode(
  liveness: NodeLiveness,
  { name, staged }: Pick<StoredRecord<"volumes">, "name" | "staged">,
  devices: readonly FamfsDevice[],
): string | undefined {
  const [first, ...rest] = devices;
  const alive = Object.keys(first?.nodes ?? {})
    .filter((nodeId) => liveness.answers(nodeId) && rest.every((device) => device.nodes[nodeId] !== undefined))
    .toSorted();
  const free = alive.filter((nodeId) => staged[nodeId] === undefined);
  const able = free.length > 0 ? free : alive;
  return able[createHash("sha256").update(name).digest().readUInt32LE(0) % Math.max(1, able.length)];
}

/** Gives the job of a Formatting or Reclaiming volume to a node when nobody has it, or its node is gone. */
export async function assignJob(
  context: ControllerContext,
  volume: StoredRecord<"volumes">,
): Promise<StoredRecord<"volumes">> {
  const { store, liveness } = context;
  if (!(await needsNode(context, volume))) return volume;
  const devices = (await store.list("devices")).filter(({ uuid }) =>
    volume.regions.some((region) => region.deviceUuid === uuid),
  );
  const jobNode = chooseJobNode(liveness, volume, devices);
  if (jobNode === undefined) return volume;
  const updated = await updateRecord(store, "volumes", volume.name, async (found) =>
    found.uuid === volume.uuid && (await needsNode(context, found)) ? { ...found, jobNode } : undefined,
  );
  return updated ?? volume;
}

async function needsNode(context: ControllerContext, { phase, jobNode, adopted }: FamfsVolume): Promise<boolean> {
  if (adopted || (phase !== "Formatting" && phase !== "Reclaiming")) return false;
  return jobNode === undefined || (await isGone(context, jobNode));
}

/** Whether the node is gone for good: a record that is missing alone may be a mistake, and the node at work. */
export async function isGone(
  { store, liveness, nodeObjects }: Pick<ControllerContext, "store" | "liveness" | "nodeObjects">,
  nodeId: string,
): Promise<boolean> {
  if ((await store.get("nodes", nodeId)) !== undefined) return false;
  return (await whyGone({ liveness, nodeObjects }, nodeId)) !== undefined;
}

/**
 * Waits until the volume is not Formatting any more, within `waitMs`. VOLUME_BUSY when it still is (the node goes on,
 * a repeated call finds it), NODE_UNAVAILABLE when no node answers that could do it.
 */
export async function untilFormatted(
  context: ControllerContext,
  volume: StoredRecord<"volumes">,
  { waitMs, signal }: { waitMs: number; signal: AbortSignal },
): Promise<StoredRecord<"volumes">> {
  const { store, liveness } = context;
  const assigned = await assignJob(context, volume);
  const { jobNode } = assigned;
  if (assigned.phase === "Formatting" && (jobNode === undefined || !liveness.isAlive(jobNode))) {
    throw new FamfsError(
      "NODE_UNAVAILABLE",
      jobNode === undefined
        ? `volume ${volume.name}: no node that reaches its device answers, so it cannot be formatted yet: see whether the node plugins there run`
        : `volume ${volume.name}: node ${jobNode} has to format it and does not answer: see whether the node plugin there runs`,
    );
  }
  const look = async () => {
    const found = await store.get("volumes", volume.name);
    if (found === undefined || found.uuid !== volume.uuid) {
      throw new FamfsError("VOLUME_BUSY", `volume ${volume.name} was deleted while it was made`);
    }
    return found.phase === "Formatting" ? undefined : found;
  };
  const limit = AbortSignal.any([signal, AbortSignal.timeout(Math.max(1, Math.floor(waitMs)))]);
  const done = await store.informer("volumes").until(look, { signal: limit, name: volume.name });
  if (done !== undefined) return done;
  signal.throwIfAborted();
  throw new FamfsError("VOLUME_BUSY", `volume ${volume.name} is still being formatted by node ${jobNode}; try again`);
}

/** Codes that need no details beside their message. */
type PlainCode = Exclude<ErrorCode, keyof ErrorDetails>;
const WITH_DETAILS: readonly string[] = [
  "SYSTEM",
  "ENTRY_CORRUPT",
  "POOL_FULL",
  "WRITER_CONFLICT",
  "OWNER_BUSY",
] satisfies (keyof ErrorDetails)[];

/** The failure that a node wrote into the record, as the error it was; a code we do not know is INTERNAL. */
export function failureOf({ name, failure }: StoredRecord<"volumes">): FamfsError {
  const isPlain = (code: ErrorCode): code is PlainCode => !WITH_DETAILS.includes(code);
  const code = ERROR_CODES.filter(isPlain).find((known) => known === failure?.code) ?? "INTERNAL";
  return new FamfsError(code, `volume ${name} could not be formatted: ${failure?.message ?? "no reason was given"}`);
}
