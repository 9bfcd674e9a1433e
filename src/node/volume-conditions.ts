import {
  abnormalOn,
  type Condition,
  type EventReasonAbout,
  type EventRecorder,
  eventText,
  type PodName,
  type Store,
  updateRecord,
} from "../state/index.ts";
import type { TreeCondition } from "../tree/index.ts";

type Reason = EventReasonAbout<"volume">;

export interface VolumeProblem {
  readonly reason: Reason;
  /** What happened, on which node; the way out is the reason's. */
  readonly message: string;
  /** Pods of this node that it concerns. */
  readonly pods?: readonly PodName[];
}

export interface VolumeConditionsOptions {
  readonly store: Store;
  readonly nodeId: string;
  readonly events: EventRecorder;
}

/** What a server notices itself. */
const NOTICED = {
  LOG_CORRUPT: "LogCorrupt",
  OWNER_LOST: "OwnerLost",
  MEMORY_ERROR: "MemoryError",
  INTERNAL: "LogCorrupt",
} as const satisfies Record<TreeCondition["code"], Reason>;

/**
 * Problems of volumes on this node: a condition in the volume's record for as long as it lasts, and an event
 * when it begins and when it is over. The only place that does either, so they always agree.
 */
export class VolumeConditions {
  readonly #options: VolumeConditionsOptions;
  /** By volume, what is being said: of two things the later one stays. */
  readonly #saying = new Map<string, Promise<void>>();

  constructor(options: VolumeConditionsOptions) {
    this.#options = options;
  }

  /** Replaces what was said before. Throws what the store throws; the event is recorded all the same. */
  report(volumeId: string, problem: VolumeProblem): Promise<void> {
    return this.#inTurn(volumeId, () => this.#report(volumeId, problem));
  }

  /** What was reported is over; with `reasons`, only if it was one of them. */
  over(volumeId: string, reasons?: readonly string[]): Promise<void> {
    return this.#inTurn(volumeId, () => this.#over(volumeId, reasons));
  }

  async #inTurn(volumeId: string, say: () => Promise<void>): Promise<void> {
    const before = this.#saying.get(volumeId) ?? Promise.resolve();
    const saying = before.catch(() => undefined).then(say);
    this.#saying.set(volumeId, saying);
    try {
      await saying;
    } finally {
      if (this.#saying.get(volumeId) === saying) this.#saying.delete(volumeId);
    }
  }

  async #report(volumeId: string, { reason, message, pods = [] }: VolumeProblem): Promise<void> {
    const { store, nodeId, events } = this.#options;
    const condition: Condition = {
      type: abnormalOn(nodeId),
      status: "True",
      reason,
      message: eventText(reason, message),
      lastTransitionTime: new Date().toISOString(),
    };
    let isNews = true;
    try {
      await updateRecord(store, "volumes", volumeId, ({ conditions, ...record }) => {
        const present = conditions.find(({ type }) => type === condition.type);
        isNews = present?.message !== condition.message;
        if (!isNews) return undefined;
        return { ...record, conditions: [...conditions.filter((each) => each !== present), condition] };
      });
    } finally {
      if (isNews) events.record({ reason, volumeId, message, pods });
    }
  }

  /** What the server of a volume noticed; undefined: it is over. */
  async reportNoticed(volumeId: string, noticed: TreeCondition | undefined): Promise<void> {
    if (noticed === undefined) await this.over(volumeId, Object.values(NOTICED));
    else {
      const message = `node ${this.#options.nodeId}: ${noticed.message}`;
      await this.report(volumeId, { reason: NOTICED[noticed.code], message });
    }
  }

  async #over(volumeId: string, reasons: readonly string[] | undefined): Promise<void> {
    const { store, nodeId, events } = this.#options;
    let ended: Condition | undefined;
    await updateRecord(store, "volumes", volumeId, ({ conditions, ...record }) => {
      ended = conditions.find(({ type, reason }) => {
        return type === abnormalOn(nodeId) && (reasons === undefined || reasons.includes(reason));
      });
      return ended === undefined ? undefined : { ...record, conditions: conditions.filter((each) => each !== ended) };
    });
    if (ended === undefined) return;
    const message = `the volume is well again on node ${nodeId} (it was ${ended.reason})`;
    events.record({ reason: "VolumeHealthy", volumeId, message });
  }
}
