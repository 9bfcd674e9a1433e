import { closeSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { native } from "../../native/index.ts";
import { FamfsError, hasCode, KeyedTryLock, type Logger, messageOf } from "../base/index.ts";
import type { CallContext, Capability } from "../csi/index.ts";
import type { PodName, Store, StoredRecord } from "../state/index.ts";
import { makeAttachment } from "./attachment.ts";
import { checkVolumeContext, parsePublishContext } from "./contexts.ts";
import type { DevicePlace } from "./devices.ts";
import type { VolumeAttachment, VolumeHealth } from "./fuse-server/messages.ts";
import type { FuseServerSupervisor } from "./fuse-server/supervisor.ts";
import { assertSameGroup } from "./mount-group.ts";
import { assertSameLabel } from "./mount-label.ts";
import { type MountEntry, mountAt, readMountTable } from "./mount-table.ts";
import { otherMountNamespaces } from "./mount-users.ts";
import { isMountOf, makeMountPoint, mountSource, mountVolume, resolveMountPath, unmountAll } from "./mounts.ts";
import { Publications, type PublishRequest } from "./publications.ts";
import { setReadAhead } from "./read-ahead.ts";
import { rebuiltAt } from "./rebuild.ts";
import { devicesIn, mountsOf, targetsOf } from "./stage-mounts.ts";
import type { StagedAttachment, StageRecord, StageRecords } from "./stage-records.ts";
import { claimStaging, clearStaging, type NodeIdentity, needsRepair, repairStaging } from "./staging-claim.ts";

export interface NodeVolumesOptions {
  readonly node: NodeIdentity;
  readonly store: Store;
  readonly records: StageRecords;
  readonly server: FuseServerSupervisor;
  /** A device on this node; undefined when the node does not reach it. */
  readonly place: (deviceUuid: string) => DevicePlace | undefined;
  /** Rejects when it is another device by now. */
  readonly checkDevice: (deviceUuid: string) => Promise<void>;
  /** Why the store is not to be believed about what was taken from this node. */
  readonly whyFrozen: () => Promise<string | undefined>;
  /** A pod has the volume no more. */
  readonly onUnpublished: (volumeId: string) => void;
  /** The CO has staged the volume, and it is served. */
  readonly onStaged: (volumeId: string) => Promise<void>;
  /** The volume is staged here no more: nobody waits for its grant, and a held one is given back. */
  readonly onUnstaged: (volumeId: string) => Promise<void>;
  /** The volume was taken from this node and is served no more: as `onUnstaged`, but its mounts are still there. */
  readonly onGivenUp: (volumeId: string, reason: string) => Promise<void>;
  /** Sees to it that a staged volume whose server died is served again; waits for that, but not for long. */
  readonly recover: (volumeId: string, call: CallContext) => Promise<void>;
  readonly logger: Logger;
}

export interface StageRequest {
  readonly volumeId: string;
  readonly stagingPath: string;
  readonly capability: Capability;
  readonly volumeContext: Readonly<Record<string, string>>;
  readonly publishContext: Readonly<Record<string, string>>;
}

/** Longest a single step may take; a call's own deadline may be shorter. */
const ATTACH_TIMEOUT_MS = 60_000;
const RESTAGE_TIMEOUT_MS = 20_000;
const SEAL_TIMEOUT_MS = 30_000;
const HEALTH_TIMEOUT_MS = 3_000;
/** Nothing that is tried later could still seal what is not in the log: who waited for it would wait for ever. */
const BEYOND_SEALING = ["NODE_UNAVAILABLE", "VOLUME_NOT_STAGED", "MEMORY_ERROR", "LOG_CORRUPT"] as const;
/** What a store answers that is away, or has lost records: nothing about whether this node has the volume. */
const SAYS_NOTHING = ["STORE_UNAVAILABLE", "STORE_RESTORED", "VOLUME_NOT_FOUND"] as const;
/** A FUSE server that takes longer is killed: it may still write. */
const GIVE_UP_TIMEOUT_MS = 5_000;
/**
 * Other nodes that have the volume must have heard of this one before anything here can open a file: a node that
 * believes to be the only one reuses the space of a removed file at once. A time is no proof: docs/guarantees.md says
 * what may happen when it is not enough.
 */
const SETTLE_MS = 150;

/**
 * What is staged and published on this node. What is mounted is asked of the kernel's mount table each time, so a
 * restart of the plugin changes nothing; small records keep what the table does not show. One call per volume at a
 * time: another one gets VOLUME_BUSY.
 */
export class NodeVolumes {
  readonly #options: NodeVolumesOptions;
  readonly #locks = new KeyedTryLock();
  readonly #publications: Publications;
  /** Why a volume's mounts do not answer any more, until it is served again. */
  readonly #lost = new Map<string, string>();
  /** Served as their records say, because the store did not: whether they still may be is asked later. */
  readonly #unconfirmed = new Set<string>();
  /** What each server was told last. */
  readonly #exclusive = new Map<string, boolean>();

  constructor(options: NodeVolumesOptions) {
    this.#options = options;
    const { node, records, server } = options;
    const seal = (volumeId: string, call: CallContext) => this.#seal(volumeId, call);
    this.#publications = new Publications({ nodeId: node.nodeId, records, server, seal });
  }

  /** The FUSE server died with these volumes. */
  markLost(volumeIds: readonly string[], reason: string): void {
    for (const volumeId of volumeIds) this.#lost.set(volumeId, reason);
  }

  /**
   * Gives up a volume that was taken from this node: nothing of it can write there any more when this is done, and the
   * record says so (it acknowledges, which ends the quarantine). Its mounts stay for the CO to remove and answer
   * ENOTCONN. False when another call on the volume is in progress.
   */
  async giveUp(volumeId: string, reason: string): Promise<boolean> {
    using lock = this.#locks.tryAcquire(volumeId);
    if (lock === undefined) return false;
    await this.#giveUp(volumeId, reason);
    return true;
  }

  async #giveUp(volumeId: string, reason: string): Promise<void> {
    const { server, store, node, onGivenUp } = this.#options;
    await server.detach(volumeId, { seal: false, timeoutMs: GIVE_UP_TIMEOUT_MS });
    this.#unconfirmed.delete(volumeId);
    this.#lost.set(volumeId, reason);
    await clearStaging(store, volumeId, node.nodeId);
    await onGivenUp(volumeId, reason);
  }

  /** With every change of a volume's record: tells its server whether other nodes have it staged. */
  consider(volume: StoredRecord<"volumes">): void {
    const { server, node, logger } = this.#options;
    this.#repair(volume);
    if (!server.serves(volume.name)) return;
    const exclusive = Object.keys(volume.staged).every((nodeId) => nodeId === node.nodeId);
    if (this.#exclusive.get(volume.name) === exclusive) return;
    this.#exclusive.set(volume.name, exclusive);
    server
      .ask("setExclusive", { volumeId: volume.name, exclusive }, { timeoutMs: HEALTH_TIMEOUT_MS })
      .catch((error: unknown) => {
        this.#exclusive.delete(volume.name);
        logger.debug(
          { volumeId: volume.name, err: error },
          "the FUSE server does not know yet who else has the volume",
        );
      });
  }

  async stage(request: StageRequest, call: CallContext): Promise<void> {
    const { volumeId, capability } = request;
    using _lock = this.#lock(volumeId);
    const { store, node } = this.#options;
    const volume = await store.get("volumes", volumeId);
    if (volume === undefined) throw new FamfsError("VOLUME_NOT_FOUND", `there is no volume ${volumeId}`);
    checkVolumeContext(request.volumeContext);
    const { reader } = parsePublishContext(request.publishContext);
    const publication = volume.published[node.nodeId];
    if (publication === undefined) {
      throw new FamfsError(
        "VOLUME_NOT_READY",
        `volume ${volumeId} is not published to node ${node.nodeId}: ` +
          (rebuiltAt(volume) === undefined
            ? "ControllerPublishVolume comes first"
            : "its record was made again from the memory, and the CO publishes it anew when it next compares (within minutes)"),
      );
    }
    const path = await resolveMountPath(request.stagingPath, "staging_target_path");
    if (path === undefined) {
      throw new FamfsError("INVALID_ARGUMENT", `staging_target_path ${request.stagingPath}: its parent does not exist`);
    }
    const readOnly = capability.rules.readOnly || publication.readonly || reader;
    const wanted: StageRecord = {
      volumeId,
      stagingPath: path,
      accessMode: capability.accessMode,
      readOnly,
      mountGroup: capability.mountGroup,
      seLinuxContext: capability.seLinuxContext,
      // What was published before its server died is bound again below.
      ...(await this.#formerly({ volumeId, stagingPath: path })),
    };
    if (await this.#isStaged(wanted)) return;

    const claimed = await claimStaging(store, volumeId, node, { readOnly });
    try {
      const record = await this.#serveClaimed(claimed, wanted, call.remainingMs());
      await this.#publications.bindAgain(record);
      await this.#options.onStaged(volumeId);
    } catch (error) {
      await this.#undoStage(wanted);
      throw error;
    }
  }

  /**
   * Serves anew what the records say is staged, and binds it over the dead mounts where it was published; in words,
   * what of the latter failed. Undefined: it is staged no more. STORE_UNAVAILABLE, STORE_RESTORED, VOLUME_NOT_FOUND: it
   * is served as it was before, if that is known, and whether it still may be is to be asked by the same call again.
   * VOLUME_BUSY while another call on the volume is in progress; VOLUME_NOT_READY.
   */
  async restage(volumeId: string): Promise<readonly string[] | undefined> {
    using _lock = this.#lock(volumeId);
    const { records, server } = this.#options;
    let record = records.get(volumeId);
    if (record === undefined) return undefined;
    let unconfirmed: unknown;
    if (!server.serves(volumeId)) {
      const attachment = this.#lastAttachment(record);
      const claimed = await this.#claimAgain(record).catch((error: unknown) => {
        if (attachment === undefined || !hasCode(error, ...SAYS_NOTHING)) throw error;
        unconfirmed = error;
        return undefined;
      });
      const wanted = { ...record, ...(await this.#formerly(record)) };
      await unmountAll(record.stagingPath, () => true);
      if (claimed !== undefined) record = await this.#serveClaimed(claimed, wanted, RESTAGE_TIMEOUT_MS);
      else if (attachment !== undefined) record = await this.#serveAs(attachment, wanted, RESTAGE_TIMEOUT_MS);
      if (unconfirmed !== undefined) this.#unconfirmed.add(volumeId);
    } else if (this.#unconfirmed.has(volumeId)) {
      const claimed = await this.#claimAgain(record);
      this.#unconfirmed.delete(volumeId);
      this.consider(claimed);
    }
    const failures = await this.#publications.bindAgain(record);
    if (unconfirmed !== undefined) throw unconfirmed;
    return failures;
  }

  /**
   * What it was served with before this node's boot ended. The memory says whether the region is still the volume's
   * (`expect`); nothing is written without a grant, which the store gives; others may have it staged by now.
   */
  #lastAttachment({ attachment }: StageRecord): StagedAttachment | undefined {
    if (attachment?.expect === undefined || attachment.node.bootId !== this.#options.node.bootId) return undefined;
    return { ...attachment, exclusive: false };
  }

  async #claimAgain({ volumeId, readOnly }: StageRecord): Promise<StoredRecord<"volumes">> {
    const { store, node } = this.#options;
    await this.#assertPublished(volumeId);
    return await claimStaging(store, volumeId, node, { readOnly });
  }

  /**
   * VOLUME_NOT_READY: it was detached by force meanwhile, and another node may have been given it. STORE_RESTORED: the
   * store was restored from a backup that knows nothing of it. VOLUME_NOT_FOUND.
   */
  async #assertPublished(volumeId: string): Promise<void> {
    const { store, node, whyFrozen } = this.#options;
    const volume = await store.get("volumes", volumeId);
    if (volume?.published[node.nodeId] !== undefined) return;
    const frozen = await whyFrozen();
    if (frozen !== undefined) {
      throw new FamfsError("STORE_RESTORED", `whether this node has volume ${volumeId} is not known: ${frozen}`);
    }
    if (volume === undefined) throw new FamfsError("VOLUME_NOT_FOUND", `there is no record of volume ${volumeId}`);
    if (rebuiltAt(volume) === undefined) await this.#giveUp(volumeId, "it was detached from this node by force");
    throw new FamfsError("VOLUME_NOT_READY", `volume ${volumeId} is no longer published to node ${node.nodeId}`);
  }

  /** What a new record takes over from the present one: where it is published, for whom, and the mounts that died. */
  async #formerly({
    volumeId,
    stagingPath,
  }: Pick<StageRecord, "volumeId" | "stagingPath">): Promise<Pick<StageRecord, "targets" | "pods" | "former">> {
    const { nodeId } = this.#options.node;
    const record = this.#options.records.get(volumeId);
    const table = await readMountTable();
    const source = mountSource(nodeId, volumeId);
    const died = [record?.device, mountAt(table, stagingPath)?.device, ...(record?.former ?? [])];
    const devices = [...new Set(died.filter((device) => device !== undefined))];
    const former = devicesIn((await otherMountNamespaces()) ?? [], devices, { source, stagingPath });
    const targets = targetsOf(nodeId, { ...record, volumeId, stagingPath }, table);
    return { targets, pods: record?.pods ?? {}, ...(former.length > 0 && { former }) };
  }

  /** Pods, and processes outside of pods, that still have a dead mount of the volume. */
  broken(volumeId: string): Promise<readonly (PodName | string)[]> {
    return this.#publications.broken(volumeId);
  }

  /** A record that was made again from memory says what the memory could tell; what is staged here is known better. */
  #repair(volume: StoredRecord<"volumes">): void {
    const { records, store, node, logger } = this.#options;
    if (!needsRepair(volume, node, records)) return;
    const lock = this.#locks.tryAcquire(volume.name);
    if (lock === undefined) return; // what runs now changes the record, and is shown that
    repairStaging({ store, node, records }, volume.name)
      .then(() => logger.info({ volumeId: volume.name }, "the record knows again whether the volume is staged here"))
      .catch((error: unknown) => logger.warn({ volumeId: volume.name, err: error }, "a record was not put right"))
      .finally(() => lock[Symbol.dispose]());
  }

  async #serveClaimed(
    claimed: StoredRecord<"volumes">,
    wanted: StageRecord,
    remainingMs: number,
  ): Promise<StageRecord> {
    const { store } = this.#options;
    const { volumeId } = wanted;
    for (const { deviceUuid } of claimed.regions) await this.#options.checkDevice(deviceUuid);
    const heard = delay(Object.keys(claimed.staged).length > 1 ? SETTLE_MS : 0);
    const record = await this.#serveAs(makeAttachment(claimed, wanted, this.#options), wanted, remainingMs);
    await heard;
    this.#unconfirmed.delete(volumeId);
    // What changed between the claim and the attachment was shown to nobody.
    const now = await store.get("volumes", volumeId);
    if (now !== undefined) this.consider(now);
    return record;
  }

  async #serveAs(attachment: StagedAttachment, wanted: StageRecord, remainingMs: number): Promise<StageRecord> {
    const { records } = this.#options;
    await records.put(wanted);
    const { device } = await this.#serve(attachment, wanted, remainingMs);
    const record = { ...wanted, device, attachment };
    await records.put(record);
    this.#lost.delete(wanted.volumeId);
    this.#exclusive.delete(wanted.volumeId);
    return record;
  }

  async unstage(request: { volumeId: string; stagingPath: string }, call: CallContext): Promise<void> {
    const { volumeId } = request;
    using _lock = this.#lock(volumeId);
    const { records, server, store, node } = this.#options;
    const path = await resolveMountPath(request.stagingPath, "staging_target_path");
    const record = records.get(volumeId);
    if (record !== undefined && path !== record.stagingPath) return; // not staged there
    const table = await readMountTable();
    const staged = path === undefined ? undefined : mountAt(table, path);
    if (record === undefined && (staged === undefined || !this.#isOurs(staged, volumeId))) {
      // Done before, or never begun: a claim whose answer from the store was lost may still be there.
      return await clearStaging(store, volumeId, node.nodeId);
    }
    const mounts = mountsOf(node.nodeId, { volumeId, stagingPath: request.stagingPath, ...record }, table);
    const targets = mounts.filter(({ target }) => target !== path);
    if (targets.length > 0) {
      const where = targets.map((entry) => entry.target).join(", ");
      throw new FamfsError("VOLUME_PUBLISHED", `volume ${volumeId} is still published at ${where}`);
    }
    if (server.serves(volumeId)) await this.#seal(volumeId, call);
    if (path !== undefined && staged !== undefined && this.#isOurs(staged, volumeId)) {
      await unmountAll(path, () => !server.serves(volumeId));
    }
    await this.#detach(volumeId);
    await this.#options.onUnstaged(volumeId);
    await clearStaging(store, volumeId, node.nodeId);
    await records.delete(volumeId);
    this.#lost.delete(volumeId);
  }

  async publish(request: PublishRequest, call: CallContext): Promise<void> {
    const { volumeId } = request;
    const { records, store, recover } = this.#options;
    checkVolumeContext(request.volumeContext);
    parsePublishContext(request.publishContext);
    if (records.get(volumeId) === undefined && (await store.get("volumes", volumeId)) === undefined) {
      throw new FamfsError("VOLUME_NOT_FOUND", `there is no volume ${volumeId}`);
    }
    // Its server died: nobody would call NodeStageVolume again while pods have the volume.
    if (records.get(volumeId) !== undefined && !this.#options.server.serves(volumeId)) await recover(volumeId, call);
    using _lock = this.#lock(volumeId);
    await this.#publications.publish(request);
  }

  async unpublish(request: { volumeId: string; targetPath: string }, call: CallContext): Promise<void> {
    using _lock = this.#lock(request.volumeId);
    await this.#publications.unpublish(request, call);
    this.#options.onUnpublished(request.volumeId);
  }

  /** What the server says, or why it says nothing. VOLUME_NOT_FOUND when `path` is not one of the volume's. */
  async health(
    request: { volumeId: string; path: string },
    call: CallContext,
  ): Promise<VolumeHealth | { readonly problem: string }> {
    const { volumeId } = request;
    // A path that nothing can be mounted at is simply not one of the volume's.
    const path = request.path.startsWith("/") ? await resolveMountPath(request.path, "volume_path") : undefined;
    const present = path === undefined ? undefined : mountAt(await readMountTable(), path);
    if (present === undefined || !this.#isOurs(present, volumeId)) {
      throw new FamfsError("VOLUME_NOT_FOUND", `volume ${volumeId} is not mounted at ${request.path}`);
    }
    const { server } = this.#options;
    if (!server.serves(volumeId)) {
      const reason = this.#lost.get(volumeId) ?? "the node plugin was restarted";
      return { problem: `nothing serves this volume's mounts (${reason}); it is tried again until it is served` };
    }
    try {
      return await server.ask("health", { volumeId }, { timeoutMs: HEALTH_TIMEOUT_MS, signal: call.signal });
    } catch (error) {
      if (!hasCode(error, "DEADLINE_EXCEEDED", "NODE_UNAVAILABLE")) throw error;
      return { problem: `the FUSE server does not answer: ${messageOf(error)}` };
    }
  }

  #lock(volumeId: string): Disposable {
    const lock = this.#locks.tryAcquire(volumeId);
    if (lock === undefined) {
      throw new FamfsError("VOLUME_BUSY", `another call for volume ${volumeId} is in progress on this node`);
    }
    return lock;
  }

  /** Whether this node mounted it, for that volume. */
  #isOurs(entry: MountEntry, volumeId: string): boolean {
    return isMountOf(entry, mountSource(this.#options.node.nodeId, volumeId));
  }

  /** True when `wanted` is staged and served. Removes what an earlier, dead server left; PATH_CONFLICT otherwise. */
  async #isStaged(wanted: StageRecord): Promise<boolean> {
    const { records, server } = this.#options;
    const { volumeId, stagingPath } = wanted;
    const record = records.get(volumeId);
    const present = mountAt(await readMountTable(), stagingPath);
    if (present !== undefined && !this.#isOurs(present, volumeId)) {
      throw new FamfsError("PATH_CONFLICT", `staging path ${stagingPath}: ${present.source} is mounted there already`);
    }
    if (record !== undefined && server.serves(volumeId)) {
      if (record.stagingPath !== stagingPath) {
        throw new FamfsError("PATH_CONFLICT", `volume ${volumeId} is staged at ${record.stagingPath} already`);
      }
      if (present !== undefined) {
        if (record.accessMode !== wanted.accessMode || record.readOnly !== wanted.readOnly) {
          throw new FamfsError(
            "PATH_CONFLICT",
            `volume ${volumeId} is staged as ${record.accessMode}${record.readOnly ? ", read-only" : ""}, not as asked for now`,
          );
        }
        assertSameLabel(record, wanted.seLinuxContext);
        assertSameGroup(record, wanted.mountGroup);
        return true;
      }
      // Somebody unmounted it behind our back.
      await this.#detach(volumeId);
    }
    if (present !== undefined) await unmountAll(stagingPath, () => true);
    return false;
  }

  async #serve(
    attachment: Omit<VolumeAttachment, "tag">,
    { stagingPath: path, seLinuxContext }: StageRecord,
    remainingMs: number,
  ): Promise<MountEntry> {
    await makeMountPoint(path);
    const source = mountSource(this.#options.node.nodeId, attachment.volumeId);
    const fd = native.openFuse();
    let entry: MountEntry;
    try {
      entry = await mountVolume(fd, path, { source, readOnly: attachment.readOnly, seLinuxContext });
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    await this.#options.server.attach(fd, attachment, Math.min(ATTACH_TIMEOUT_MS, Math.max(1, remainingMs)));
    await setReadAhead(entry, this.#options.logger);
    return entry;
  }

  async #undoStage({ volumeId, stagingPath }: StageRecord): Promise<void> {
    const { store, node, records, server, logger } = this.#options;
    try {
      await server.detach(volumeId, { seal: false, timeoutMs: SEAL_TIMEOUT_MS });
      await unmountAll(stagingPath, () => true);
      await clearStaging(store, volumeId, node.nodeId);
      await records.delete(volumeId);
    } catch (error) {
      // The record stays, so the next call finds what is left.
      logger.error({ volumeId, err: error }, "could not undo a failed NodeStageVolume");
    }
  }

  async #seal(volumeId: string, call: CallContext): Promise<void> {
    const timeoutMs = Math.min(SEAL_TIMEOUT_MS, Math.max(1, call.remainingMs()));
    try {
      await this.#options.server.ask("seal", { volumeId }, { timeoutMs });
    } catch (error) {
      this.#orLost(volumeId, error);
    }
  }

  async #detach(volumeId: string): Promise<void> {
    const { server } = this.#options;
    try {
      await server.detach(volumeId, { seal: true, timeoutMs: SEAL_TIMEOUT_MS });
    } catch (error) {
      this.#orLost(volumeId, error);
      await server.detach(volumeId, { seal: false, timeoutMs: SEAL_TIMEOUT_MS });
    }
  }

  #orLost(volumeId: string, error: unknown): void {
    if (!hasCode(error, ...BEYOND_SEALING)) throw error;
    this.#options.logger.warn({ volumeId, err: error }, "files that were not sealed yet are lost");
  }
}
