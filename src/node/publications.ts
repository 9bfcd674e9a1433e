import { FamfsError, messageOf } from "../base/index.ts";
import type { CallContext, Capability } from "../csi/index.ts";
import type { PodName } from "../state/index.ts";
import type { FuseServerSupervisor } from "./fuse-server/supervisor.ts";
import { assertSameGroup } from "./mount-group.ts";
import { assertSameLabel } from "./mount-label.ts";
import { type MountEntry, mountAt, readMountTable } from "./mount-table.ts";
import { holdersOf, otherMountNamespaces } from "./mount-users.ts";
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
import { devicesIn } from "./stage-mounts.ts";
import type { StageRecord, StageRecords } from "./stage-records.ts";

export interface PublicationsOptions {
  readonly nodeId: string;
  readonly records: StageRecords;
  readonly server: Pick<FuseServerSupervisor, "serves">;
  /** What was closed is in the log afterwards. */
  readonly seal: (volumeId: string, call: CallContext) => Promise<void>;
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

/** Staged volumes where pods find them: binds of the staging mount. The caller holds the volume's lock. */
export class Publications {
  readonly #options: PublicationsOptions;
  /** Targets that were bound over dead mounts, by volume. All of them again after each restart, so kept here only. */
  readonly #bound = new Map<string, Set<string>>();

  constructor(options: PublicationsOptions) {
    this.#options = options;
  }

  async publish(request: PublishRequest): Promise<void> {
    const { volumeId, capability } = request;
    const { records, server } = this.#options;
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
    assertSameGroup(record, capability.mountGroup);
    if (capability.accessMode !== record.accessMode) {
      throw new FamfsError(
        "NOT_SUPPORTED",
        `volume ${volumeId} is staged as ${record.accessMode} and cannot be published as ${capability.accessMode}`,
      );
    }
    const pod = podIn(request.volumeContext);

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
    await bindVolumeOver(staging, target, options, present && (await otherMountNamespaces()));
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
    const bound = this.#bound.get(volumeId);
    if (bound?.delete(target) === true && bound.size === 0) this.#bound.delete(volumeId);
  }

  /**
   * Binds a volume that is served again over the dead mounts that former servers left at its targets, with the same
   * options. A target that fails keeps no other from it: in words, what failed.
   */
  async bindAgain(record: StageRecord): Promise<string[]> {
    const { volumeId, stagingPath } = record;
    const table = await readMountTable();
    // Nothing at all at a target: somebody took it away, and nobody wants it there any more.
    const dead = record.targets.filter((target) => (mountAt(table, target)?.device ?? record.device) !== record.device);
    const namespaces = dead.length > 0 ? await otherMountNamespaces() : undefined;
    const bound = this.#bound.get(volumeId) ?? new Set<string>();
    const failures: string[] = [];
    for (const target of dead) {
      const top = mountAt(table, target);
      if (top === undefined) continue;
      try {
        if (!this.#isOurs(top, volumeId)) {
          throw new FamfsError("PATH_CONFLICT", `${top.type} ${top.source} was mounted over it`);
        }
        await bindVolumeOver(stagingPath, target, bindOptionsOf(top), namespaces);
        bound.add(target);
      } catch (error) {
        failures.push(`${target}: ${messageOf(error)}`);
      }
    }
    if (bound.size > 0) this.#bound.set(volumeId, bound);
    return failures;
  }

  /**
   * Pods whose containers have a dead mount, and processes outside of pods that do. When nobody can see that, all pods
   * that a former server's mounts were bound again for.
   */
  async broken(volumeId: string): Promise<readonly (PodName | string)[]> {
    const { records, nodeId } = this.#options;
    const record = records.get(volumeId);
    const targets = this.#bound.get(volumeId);
    if (record === undefined || (record.former === undefined && targets === undefined)) return [];
    const namespaces = await otherMountNamespaces();
    if (namespaces === undefined) return [...(targets ?? [])].map((target) => record.pods[target] ?? target);
    const table = await readMountTable();
    const isDead = (mount: MountEntry) =>
      mount.device !== record.device &&
      record.former?.includes(mount.device) === true &&
      isMountOf(mount, mountSource(nodeId, volumeId)) &&
      // Not what shows the directory of the targets itself.
      mountAt(table, mount.target) === undefined;
    const pods = new Map(Object.values(record.pods).map((pod) => [pod.uid, pod]));
    const holders = await holdersOf(isDead, namespaces);
    const named = holders.map(({ pid, command, podUid }) =>
      podUid === undefined ? `process ${pid} (${command})` : pods.get(podUid),
    );
    return [...new Set(named)].filter((each) => each !== undefined);
  }

  #isOurs(entry: MountEntry, volumeId: string): boolean {
    return isMountOf(entry, mountSource(this.#options.nodeId, volumeId));
  }

  /** Where it is published, and which pod that is for, if anybody said. */
  async #remember(record: StageRecord, target: string, pod: PodName | undefined): Promise<void> {
    const targets = new Set([...record.targets, target]);
    if (targets.size === record.targets.length && (pod === undefined || record.pods[target]?.uid === pod.uid)) return;
    const pods = pod === undefined ? record.pods : { ...record.pods, [target]: pod };
    await this.#options.records.put({ ...record, targets: [...targets], pods });
  }

  async #forget({ former: before = [], ...record }: StageRecord, target: string): Promise<void> {
    const { [target]: _, ...pods } = record.pods;
    const targets = record.targets.filter((each) => each !== target);
    const source = mountSource(this.#options.nodeId, record.volumeId);
    // A device that nobody shows any more is another mount's next.
    const namespaces = before.length > 0 ? await otherMountNamespaces() : undefined;
    const former = devicesIn(namespaces ?? [], before, { source, stagingPath: record.stagingPath });
    if (targets.length === record.targets.length && former.length === before.length) return;
    await this.#options.records.put({ ...record, targets, pods, ...(former.length > 0 && { former }) });
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
