import { FamfsError, fromSystemError } from "../base/index.ts";
import {
  ENTRY_SIZE,
  encodeEntries,
  entryOffset,
  LOG_COUNTERS_OFFSET,
  LOG_NEXT_INDEX_OFFSET,
  type LogEntry,
  MAX_TRANSACTION,
  SUPERBLOCK_SIZE,
} from "../format/index.ts";
import { performPlan } from "./ownership/perform.ts";
import { appendPlan, type LogPlaces } from "./ownership/protocol.ts";
import type { VolumeMedia } from "./volume-media.ts";

/**
 * The log of a stock file system in the hands of its owner, the host whose UUID its superblock has. There are no
 * claims: by the rule of the stock tools no other host appends, and on this host they must not while this does (they
 * lock a file of their own mount, which is not there). What can be seen of a breach is seen before each append: another
 * superblock, or entries that are not ours.
 */
export class StockLogWriter {
  readonly #media: VolumeMedia;
  readonly #superblock: Uint8Array;
  #nextIndex: number;

  private constructor(media: VolumeMedia, superblock: Uint8Array, nextIndex: number) {
    this.#media = media;
    this.#superblock = superblock;
    this.#nextIndex = nextIndex;
  }

  /** NOT_PERMITTED for another host than the owner; LOG_CORRUPT when the log cannot be continued. */
  static open(media: VolumeMedia, systemUuid: string | undefined): StockLogWriter {
    const why = whyNotOwner(media, systemUuid);
    if (why !== undefined) throw new FamfsError("NOT_PERMITTED", why);
    const reader = media.createReader();
    const { end } = reader.end();
    const bad = reader.firstBad(Math.min(media.position, end), end);
    if (bad !== undefined) {
      throw new FamfsError("LOG_CORRUPT", `${bad.message}; the log cannot be continued, run fsck`, {
        details: { index: bad.index },
      });
    }
    return new StockLogWriter(media, media.window.read(0, SUPERBLOCK_SIZE), end);
  }

  /** Index that the next entry gets. */
  get nextIndex(): number {
    return this.#nextIndex;
  }

  /** Whether the file system is still the one that was opened, and its log as this left it. MEMORY_ERROR. */
  holds(): boolean {
    const { window, logOffset, coherent } = this.#media;
    if (!coherent) window.invalidate(0, SUPERBLOCK_SIZE);
    const same = Buffer.compare(window.read(0, SUPERBLOCK_SIZE), this.#superblock) === 0;
    return same && window.load64(logOffset + LOG_NEXT_INDEX_OFFSET) === BigInt(this.#nextIndex);
  }

  /** Appends entries that the stock tools know: FILE and MKDIR. OWNER_STALE, LOG_FULL, NOT_PERMITTED, MEMORY_ERROR. */
  append(entries: readonly LogEntry[]): void {
    const { window, logOffset, logSlots } = this.#media;
    const foreign = entries.find(({ type }) => type !== "file" && type !== "mkdir");
    if (foreign !== undefined) {
      throw new FamfsError(
        "NOT_PERMITTED",
        `what is in the log of ${window.what} stays as it is: the stock tools, which formatted it, know no entry of type ` +
          `${foreign.type}; copy it to a volume of this driver to change it`,
      );
    }
    if (entries.length === 0 || entries.length > MAX_TRANSACTION) {
      throw new FamfsError("INVALID_ARGUMENT", `1 to ${MAX_TRANSACTION} entries at a time, not ${entries.length}`);
    }
    const index = this.#nextIndex;
    if (index + entries.length > logSlots) {
      throw new FamfsError("LOG_FULL", `the log of ${window.what} has ${logSlots} slots, ${index} are used`);
    }
    if (!this.holds()) {
      throw new FamfsError("OWNER_STALE", `somebody else wrote to the log of ${window.what}, or formatted it again`, {
        details: { outcome: "nothing appended" },
      });
    }
    try {
      performPlan(appendPlan(placesOf(logOffset), index, encodeEntries(index, [...entries])), 0, window);
    } catch (error) {
      if ((error as { code?: unknown }).code !== "EIO") throw fromSystemError(error, "append");
      throw window.noAnswer(`append of log entry ${index}, which is not published`, error);
    }
    this.#nextIndex += entries.length;
  }
}

/** Why this host may not append to the log of a stock file system; undefined when it may. */
export function whyNotOwner(media: VolumeMedia, systemUuid: string | undefined): string | undefined {
  const { systemUuid: owner } = media.superblock;
  if (systemUuid === owner) return undefined;
  const here = systemUuid === undefined ? "has none (/opt/famfs/system_uuid)" : `has ${systemUuid}`;
  return (
    `the file system in ${media.window.what} was formatted by the stock tools and belongs to the host with the system ` +
    `UUID ${owner}; this one ${here}: read it here, and write it there`
  );
}

function placesOf(logOffset: number): LogPlaces {
  return {
    countersAt: logOffset + LOG_COUNTERS_OFFSET,
    entryAt: (index) => logOffset + entryOffset(index),
    entrySize: ENTRY_SIZE,
  };
}
