import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { FamfsError, fromSystemError } from "../base/index.ts";
import { isSeLinuxContext } from "../csi/index.ts";
import type { PodName } from "../state/index.ts";
import type { VolumeAttachment } from "./fuse-server/messages.ts";

/**
 * What this node must remember about a staged volume when the plugin restarts; what is mounted where is asked of the
 * mount table instead.
 */
export interface StageRecord {
  readonly volumeId: string;
  readonly stagingPath: string;
  readonly accessMode: string;
  readonly readOnly: boolean;
  readonly mountGroup: number | undefined;
  /** Label of its mount: once mounted with another, the pods that have it open could not use it. */
  readonly seLinuxContext: string | undefined;
  /** Where it is published. */
  readonly targets: readonly string[];
  /** Pods it is published for, by target path: to name them when their mounts break. */
  readonly pods: Readonly<Record<string, PodName>>;
  /** Of its mount and all binds of that, as the mount table shows it; not known before it is mounted. */
  readonly device?: string;
  /** The same of its former mounts, which died with their servers, that other mount namespaces show. */
  readonly former?: readonly string[];
  /** What it was served with last: enough to serve it again while the store does not answer. */
  readonly attachment?: StagedAttachment;
}

export type StagedAttachment = Omit<VolumeAttachment, "tag">;

/** One small file per staged volume, replaced as a whole. */
export class StageRecords {
  readonly #directory: string;
  readonly #records = new Map<string, StageRecord>();

  private constructor(directory: string) {
    this.#directory = directory;
  }

  /** Reads what an earlier run left. A file that is not a record of ours is an error, never ignored. */
  static async open(directory: string): Promise<StageRecords> {
    const records = new StageRecords(directory);
    try {
      await mkdir(directory, { recursive: true, mode: 0o700 });
      for (const name of await readdir(directory)) {
        if (!name.endsWith(".json")) continue;
        const record = parseStageRecord(await readFile(join(directory, name), "utf8"), join(directory, name));
        records.#records.set(record.volumeId, record);
      }
    } catch (error) {
      throw fromSystemError(error, "read", directory);
    }
    return records;
  }

  get(volumeId: string): StageRecord | undefined {
    return this.#records.get(volumeId);
  }

  all(): StageRecord[] {
    return [...this.#records.values()];
  }

  async put(record: StageRecord): Promise<void> {
    const path = this.#path(record.volumeId);
    try {
      await writeFile(`${path}.new`, JSON.stringify(record), { mode: 0o600, flush: true });
      await rename(`${path}.new`, path);
    } catch (error) {
      throw fromSystemError(error, "write", path);
    }
    this.#records.set(record.volumeId, record);
  }

  async delete(volumeId: string): Promise<void> {
    const path = this.#path(volumeId);
    try {
      await rm(path, { force: true });
    } catch (error) {
      throw fromSystemError(error, "unlink", path);
    }
    this.#records.delete(volumeId);
  }

  // Ids come from requests: whatever they contain stays within one file name.
  #path(volumeId: string): string {
    return join(this.#directory, `${Buffer.from(volumeId).toString("base64url")}.json`);
  }
}

function parseStageRecord(text: string, path: string): StageRecord {
  const wrong = (what: string) =>
    new FamfsError("INTERNAL", `${path} is not a record of a staged volume (${what}); move it away after a check`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw wrong("not JSON");
  }
  if (typeof value !== "object" || value === null) throw wrong("not an object");
  const fields = value as Record<string, unknown>;
  const { volumeId, stagingPath, accessMode, readOnly, mountGroup, seLinuxContext } = fields;
  if (typeof volumeId !== "string" || typeof stagingPath !== "string" || typeof accessMode !== "string") {
    throw wrong("volumeId, stagingPath or accessMode");
  }
  if (typeof readOnly !== "boolean") throw wrong("readOnly");
  if (mountGroup !== undefined && typeof mountGroup !== "number") throw wrong("mountGroup");
  if (seLinuxContext !== undefined && !(typeof seLinuxContext === "string" && isSeLinuxContext(seLinuxContext))) {
    throw wrong("seLinuxContext");
  }
  const pods = parsePods(fields["pods"] ?? {});
  if (pods === undefined) throw wrong("pods");
  const device = fields["device"];
  if (device !== undefined && typeof device !== "string") throw wrong("device");
  const [targets, former] = [fields["targets"] ?? Object.keys(pods), fields["former"] ?? []];
  if (!isTexts(targets)) throw wrong("targets");
  if (!isTexts(former)) throw wrong("former");
  const staged = { volumeId, stagingPath, accessMode, readOnly, mountGroup, seLinuxContext, targets, pods };
  const attachment = parseAttachment(fields["attachment"], volumeId);
  return {
    ...staged,
    ...(device !== undefined && { device }),
    ...(former.length > 0 && { former }),
    ...(attachment !== undefined && { attachment }),
  };
}

/** A field that is not here yet does not compile. */
const ATTACHMENT_FIELDS = {
  volumeId: "string",
  devicePath: "string",
  coherent: "boolean",
  cachesOf: "string, if any",
  region: "object",
  expect: "object",
  node: "object",
  readOnly: "boolean",
  shared: "boolean",
  exclusive: "boolean",
  parameters: "object",
  mountGroup: "number, if any",
} as const satisfies Record<keyof StagedAttachment, string>;

/** Undefined as well when another version wrote it: then it is made anew once the store answers. */
function parseAttachment(value: unknown, volumeId: string): StagedAttachment | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const fields = value as Record<string, unknown>;
  const isWhole = Object.entries(ATTACHMENT_FIELDS).every(([name, type]) => {
    const field = fields[name];
    const [wanted, optional] = type.split(",");
    if (optional !== undefined) return field === undefined || typeof field === wanted;
    return typeof field === type && field !== null;
  });
  if (!isWhole || fields["volumeId"] !== volumeId) return undefined;
  const whole: unknown = { mountGroup: undefined, ...fields };
  return whole as StagedAttachment;
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((each) => typeof each === "string");
}

function parsePods(value: unknown): Record<string, PodName> | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const pods: Record<string, PodName> = {};
  for (const [target, pod] of Object.entries(value) as [string, unknown][]) {
    if (typeof pod !== "object" || pod === null) return undefined;
    const { namespace, name, uid } = pod as Record<string, unknown>;
    if (typeof namespace !== "string" || typeof name !== "string" || typeof uid !== "string") return undefined;
    pods[target] = { namespace, name, uid };
  }
  return pods;
}
