import { stat } from "node:fs/promises";
import { messageOf } from "../base/index.ts";
import { type Device, showContents } from "../media/index.ts";
import type { EventRecorder, Store } from "../state/index.ts";
import type { StageRecords } from "./stage-records.ts";
import type { VolumeConditions } from "./volume-conditions.ts";

export interface DeviceWatchOptions {
  readonly nodeId: string;
  readonly store: Store;
  /** The devices of this node, by UUID. */
  readonly devices: () => readonly (readonly [string, Device])[];
  readonly records: Pick<StageRecords, "get">;
  readonly conditions: VolumeConditions;
  readonly events: EventRecorder;
}

interface Trouble {
  readonly reason: "DeviceMissing" | "DeviceLabelChanged";
  readonly message: string;
}

/**
 * Looks whether the devices of this node are still there and still carry their labels: what is mapped goes on
 * answering when its device is gone or was written anew, so nobody else would notice.
 */
export class DeviceWatch {
  readonly #options: DeviceWatchOptions;
  /** What was told, by UUID. */
  readonly #troubles = new Map<string, Trouble>();

  constructor(options: DeviceWatchOptions) {
    this.#options = options;
  }

  async look(): Promise<void> {
    for (const [uuid, device] of this.#options.devices()) await this.#lookAt(uuid, device);
  }

  async #lookAt(uuid: string, device: Device): Promise<void> {
    const { nodeId, events, conditions } = this.#options;
    const before = this.#troubles.get(uuid);
    const trouble = await troubleWith(uuid, device);
    if (trouble === undefined && before === undefined) return;
    // Conditions at every look: the store may not have taken them the last time, and volumes come and go.
    const volumes = await this.#volumesOn(uuid);
    if (trouble === undefined) {
      for (const volumeId of volumes) await conditions.over(volumeId, ["DeviceLost"]);
      this.#troubles.delete(uuid);
      const message = `${device.path} of node ${nodeId} is there again, with its label`;
      events.record({ reason: "DeviceBack", deviceUuid: uuid, message });
    } else {
      const message = `node ${nodeId}: ${trouble.message}`;
      this.#troubles.set(uuid, trouble);
      if (trouble.message !== before?.message) events.record({ reason: trouble.reason, deviceUuid: uuid, message });
      for (const volumeId of volumes) await conditions.report(volumeId, { reason: "DeviceLost", message });
    }
  }

  /** Volumes on the device that are staged here. */
  async #volumesOn(uuid: string): Promise<string[]> {
    const { store, records } = this.#options;
    return (await store.list("volumes"))
      .filter(({ name, regions }) => records.get(name) && regions.some(({ deviceUuid }) => deviceUuid === uuid))
      .map(({ name }) => name);
  }
}

async function troubleWith(uuid: string, device: Device): Promise<Trouble | undefined> {
  const { path } = device;
  try {
    await stat(path);
    const contents = await device.inspect();
    const found = contents.type === "label" ? contents.label.uuid : contents.type === "famfs" ? contents.uuid : "";
    if (found === uuid) return undefined;
    return { reason: "DeviceLabelChanged", message: `${path} was device ${uuid} and ${showContents(contents)} now` };
  } catch (error) {
    return { reason: "DeviceMissing", message: `${path}, device ${uuid}, cannot be read: ${messageOf(error)}` };
  }
}
