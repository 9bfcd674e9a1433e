import type { Logger } from "../base/index.ts";
import { messageOf } from "../base/index.ts";
import { type MountEntry, mountAt, readMountTable } from "./mount-table.ts";
import { type BindOption, bindVolume, isMountOf, mountSource, unmountAll } from "./mounts.ts";
import type { NodeVolumes } from "./node-volumes.ts";
import { podsOf, showPods } from "./pods.ts";
import type { StageRecord, StageRecords } from "./stage-records.ts";
import type { VolumeConditions } from "./volume-conditions.ts";

export interface RestageOptions {
  readonly nodeId: string;
  readonly records: StageRecords;
  readonly volumes: NodeVolumes;
  readonly conditions: VolumeConditions;
  readonly logger: Logger;
}

/**
 * At start: serves again what the records say is staged and binds it anew where it was published, so that containers
 * that start from now on work without a call of the CO. Those that run keep the old, dead mount: the volume's condition
 * says that their pods must be restarted, until they are gone or it is staged again. A volume that fails harms no other.
 */
export async function restageAll(options: RestageOptions): Promise<void> {
  const table = await readMountTable();
  await Promise.all(options.records.all().map((record) => restage(record, table, options)));
}

async function restage(record: StageRecord, table: readonly MountEntry[], options: RestageOptions): Promise<void> {
  const { nodeId, volumes, conditions, logger } = options;
  const { volumeId, stagingPath } = record;
  const source = mountSource(nodeId, volumeId);
  const stale = mountAt(table, stagingPath);
  const device = stale?.device ?? record.device;
  const ofVolume = (entry: MountEntry) => isMountOf(entry, source) && entry.device === device;
  const targets = table.filter((entry) => ofVolume(entry) && entry.root === "/" && entry.target !== stagingPath);
  const said = (saying: Promise<void>) =>
    saying.catch((error: unknown) =>
      logger.warn({ volumeId, err: error }, "the volume's record does not say how it is"),
    );
  try {
    await volumes.restage(record);
    for (const { target, options: attributes } of targets) {
      await unmountAll(target, { force: true });
      await bindVolume(stagingPath, target, bindOptionsOf(attributes));
    }
  } catch (error) {
    const message = `not served again after a restart of the node plugin of ${nodeId}: ${messageOf(error)}`;
    logger.error({ volumeId, err: error }, "not served again after a restart of the node plugin");
    return await said(conditions.report(volumeId, { reason: "NotServed", message, pods: podsOf(record) }));
  }
  logger.info({ volumeId, targets: targets.length }, "served again after a restart of the node plugin");
  // Not before it is known whether mounts broke: nobody is told that all is well when it is not.
  if (targets.length === 0) return await said(conditions.over(volumeId));
  volumes.mountsBroke(
    volumeId,
    targets.map(({ target }) => target),
  );
  const broken = targets.map(({ target }) => record.pods[target] ?? target);
  await said(
    conditions.report(volumeId, {
      reason: "MountsBroken",
      message: `the node plugin of ${nodeId} was restarted: the mounts of ${showPods(broken)} do not answer`,
      pods: broken.filter((each) => typeof each !== "string"),
    }),
  );
}

const KEPT: readonly BindOption[] = ["ro", "noexec", "noatime", "nodiratime"];

function bindOptionsOf(attributes: ReadonlySet<string>): ReadonlySet<BindOption> {
  return new Set(KEPT.filter((name) => attributes.has(name)));
}
