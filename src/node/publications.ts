import { FamfsError, type Logger, messageOf } from "../base/index.ts";
import type { CallContext, Capability } from "../csi/index.ts";
import type { EventRecorder, PodName } from "../state/index.ts";
import type { FuseServerSupervisor } from "./fuse-server/supervisor.ts";
import { warnOfOtherGroup } from "./mount-group.ts";
import { assertSameLabel } from "./mount-label.ts";
import { type MountEntry, mountAt, readMountTable } from "./mount-table.ts";
import {
  type BindOption,
  bindOptionsOf,
  bindVolumeOver,
  hasBindOptions,
  isMountOf,
  makeMountPoint,
  mountSource,
  removeMountPoint,
  resolveMountPath,
  unmountAll,
} from "./mounts.ts";
import { podIn } from "./pods.ts";
import { formerDevices, mountsOf } from "./stage-mounts.ts";
import type { StageRecord, StageRecords } from "./stage-records.ts";

export interface PublicationsOptions {
  readonly nodeId: string;
  readonly records: StageRecords;
  readonly server: Pick<FuseServerSupervisor, "serves">;
  readonly events: EventRecorder;
  /** What was closed is in the log afterwards. */
  readonly seal: (volumeId: string, call: CallContext) => Promise<void>;
  /** None of the mounts that `mountsBroke` named is there any more. */
  readonly onMountsGone: (volumeId: string) => Promise<void>;
  readonly logger: Logger;
}

export interface PublishRequest {
  readonly volumeId: string;
  readonly stagingPath: string;
  readonly targetPath: string;
  readonly readOnly: boolean;
  readonly capability: Capability;
  readonly volumeContext: Readonly<Record<string, string>>;
  readonly publishContext: Readonly<Record<string, string>>;
}

/** What became of the targets of a volume that is served again. */
export interface BoundAgain {
  /** Those that had a dead mount. */
  readonly targets: readonly string[];
  /** What kept others from being bound, in words. */
  readonly failures: readonly string[];
}

/** Staged volumes where pods find them: binds of the staging mount. The caller holds the volume's lock. */
export class Publications {
  readonly #options: PublicationsOptions;
  /** Targets of pods that still have a dead mount, by volume. All of them again after each restart, so kept here only. */
  readonly #broken = new Map<string, Set<string>>();

  constructor(options: PublicationsOptions) {
    this.#options = options;
  }

  async publish(request: PublishRequest): Promise<void> {
    const { volumeId, capability } = request;
    const { nodeId, records, server, events } = this.#options;
    const record = records.get(volumeId);
    const staging = await resolveMountPath(request.stagingPath, "staging_target_path");
    const table = await readMountTable();
    const staged = staging === undefined ? undefined : mountAt(table, staging);
    if (
      record === undefined ||
      staging !== record.stagingPath ||
      staged === undefined ||
      !this.#isOurs(staged, volumeId) ||
      !server.serves(volumeId)
    ) {
      throw new FamfsError("VOLUME_NOT_STAGED", `volume ${volumeId} is not staged at ${request.stagingPath}`);
    }
    const target = await resolveMountPath(request.targetPath, "target_path");
    if (target === undefined) {
      throw new FamfsError("INVALID_ARGUMENT", `target_path ${request.targetPath}: its parent does not exist`);
    }
    if (`${target}/`.startsWith(`${staging}/`)) {
      throw new FamfsError("PATH_CONFLICT", `target_path ${target} is the staging path, or in it`);
    }
    // Without a flag it asks for none: a privileged pod may use any.
    if (capability.seLinuxContext !== undefined) assertSameLabel(record, capability.seLinuxContext);
    const pod = podIn(request.volumeContext);
    warnOfOtherGroup({ events, nodeId, record, asked: capability.mountGroup, pod });

    const options = bindOptions(request, record);
    const present = mountAt(table, target);
    if (present !== undefined && !this.#isOurs(present, volumeId)) {
      throw new FamfsError(
        "PATH_CONFLICT",
        `target_path ${target}: ${present.type} ${present.source} is mounted there`,
      );
    }
    if (present?.device === staged.device) {
      if (hasBindOptions(present, options)) return await this.#remember(record, target, pod);
      throw new FamfsError("PATH_CONFLICT", `volume ${volumeId} is published at ${target} with other options`);
    }
    if (capability.rules.singlePath) assertOnlyTarget(volumeId, target, staged, table);
    // A dead mount is a directory to the kernel, but its server would have to say so.
    if (present === undefined) await makeMountPoint(target);
    await bindVolumeOver(staging, target, options);
    const made = mountAt(await readMountTable(), target);
    if (made?.device !== staged.device || !hasBindOptions(made, options)) {
      await unmountAll(target, () => false);
      throw new FamfsError("INTERNAL", `${target}: the mount table does not show the mount that was made`);
    }
    await this.#remember(record, target, pod);
  }

  async unpublish(request: { volumeId: string; targetPath: string }, call: CallContext): Promise<void> {
    const { volumeId } = request;
    const target = await resolveMountPath(request.targetPath, "target_path");
    if (target === undefined) return;
    const record = this.#options.records.get(volumeId);
    const present = mountAt(await readMountTable(), target);
    if (present !== undefined) {
      if (!this.#isOurs(present, volumeId)) {
        throw new FamfsError("PATH_CONFLICT", `target_path ${target}: volume ${volumeId} is not what is mounted there`);
      }
      const live = this.#options.server.serves(volumeId) ? record?.device : undefined;
      // What a pod closed is in the log before its pod is gone.
      if (present.device === live && !present.options.has("ro")) await this.#options.seal(volumeId, call);
      // Below what answers are those that died with earlier servers.
      await unmountAll(target, ({ device }) => device !== live);
    }
    await removeMountPoint(target);
    if (record !== undefined) await this.#forget(record, target);
    this.#isGone(volumeId, target);
  }

  /**
   * Binds a volume that is served again over the dead mounts that former servers left at its targets, with the same
   * options. A target that fails keeps no other from it.
   */
  async bindAgain(record: StageRecord): Promise<BoundAgain> {
    const { volumeId, stagingPath } = record;
    const table = await readMountTable();
    // Parts of it that the kubelet bound (subPath) are the kubelet's to bind again, when the container starts again.
    const mounts = mountsOf(this.#options.nodeId, record, table).filter(({ root }) => root === "/");
    const targets = new Set(mounts.map(({ target }) => target));
    targets.delete(stagingPath);
    const bound: string[] = [];
    const failures: string[] = [];
    for (const target of targets) {
      const top = mountAt(table, target);
      if (top === undefined || top.device === record.device) continue;
      try {
        if (!this.#isOurs(top, volumeId)) {
          throw new FamfsError("PATH_CONFLICT", `${top.type} ${top.source} was mounted over it`);
        }
        await bindVolumeOver(stagingPath, target, bindOptionsOf(top));
        bound.push(target);
      } catch (error) {
        failures.push(`${target}: ${messageOf(error)}`);
      }
    }
    return { targets: bound, failures };
  }

  mountsBroke(volumeId: string, targets: readonly string[]): void {
    this.#broken.set(volumeId, new Set([...(this.#broken.get(volumeId) ?? []), ...targets]));
  }

  // Pods end also while the store does not answer, so nobody waits for it.
  #isGone(volumeId: string, target: string): void {
    const broken = this.#broken.get(volumeId);
    if (broken?.delete(target) !== true || broken.size > 0) return;
    this.#broken.delete(volumeId);
    const { onMountsGone, logger } = this.#options;
    onMountsGone(volumeId).catch((error: unknown) => {
      logger.warn({ volumeId, err: error }, "the volume's record does not say yet that its pods were made anew");
    });
  }

  #isOurs(entry: MountEntry, volumeId: string): boolean {
    return isMountOf(entry, mountSource(this.#options.nodeId, volumeId));
  }

  /** Which pod a target is for, if anybody said. */
  async #remember(record: StageRecord, target: string, pod: PodName | undefined): Promise<void> {
    if (pod === undefined || record.pods[target]?.uid === pod.uid) return;
    await this.#options.records.put({ ...record, pods: { ...record.pods, [target]: pod } });
  }

  /** What was known of a target. The devices of mounts that are gone with it may be those of others next. */
  async #forget({ former: before = [], ...record }: StageRecord, target: string): Promise<void> {
    const { nodeId, records } = this.#options;
    const { [target]: pod, ...pods } = record.pods;
    const still = formerDevices(nodeId, { ...record, former: before }, await readMountTable());
    const former = before.filter((device) => still.includes(device));
    if (pod === undefined && former.length === before.length) return;
    await records.put({ ...record, pods, ...(former.length > 0 && { former }) });
  }
}

function bindOptions(request: PublishRequest, record: StageRecord): ReadonlySet<BindOption> {
  const { capability } = request;
  const options = new Set<BindOption>();
  if (request.readOnly || record.readOnly || capability.rules.readOnly) options.add("ro");
  for (const flag of capability.mountFlags) {
    if (flag === "ro" || flag === "noexec" || flag === "noatime" || flag === "nodiratime") options.add(flag);
  }
  return options;
}

function assertOnlyTarget(volumeId: string, target: string, staged: MountEntry, table: readonly MountEntry[]): void {
  const other = table.find(
    (entry) => entry.device === staged.device && entry.target !== staged.target && entry.target !== target,
  );
  if (other === undefined) return;
  throw new FamfsError(
    "WRITER_CONFLICT",
    `volume ${volumeId} admits one pod (SINGLE_NODE_SINGLE_WRITER) and is published at ${other.target}`,
    { details: { nodeId: "" } },
  );
}
