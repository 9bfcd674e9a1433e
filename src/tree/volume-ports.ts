import { setImmediate as yieldToOthers } from "node:timers/promises";
import { ALLOC_UNIT, KIB, MIB, roundDown, roundUp } from "../base/index.ts";
import type { InPlaceChange } from "../format/index.ts";
import type { ChangesSeen, LogWriter as MediaWriter, StockLogWriter, VolumeMedia } from "../media/index.ts";
import type { Clock, DataMemory, LogNews, LogReader, LogWriter } from "./ports.ts";

/** Entries read between two looks at what else there is to do: a few milliseconds. */
const SLICE = 256;
const COPY_CHUNK = 4 * MIB;
/** Zeroed by the thread that asks for it: some 10 µs. The start of another thread takes as long. */
const ZERO_AT_ONCE = 64 * KIB;
/** Written back to the memory, or dropped from the caches, between two looks at what else there is to do: about 0.2 ms. */
const INVALIDATE_CHUNK = 4 * MIB;

/** The tree's ports over a volume in memory. */

export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  schedule(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    timer.unref();
    return { [Symbol.dispose]: () => clearTimeout(timer) };
  },
};

/** `ownEpochs`: changes under these epochs were made here. */
export function logReader(media: VolumeMedia, ownEpochs: ReadonlySet<number>): LogReader {
  let seen: ChangesSeen | undefined;
  return {
    poll(): LogNews {
      const { entries, more, retracted } = media.poll(SLICE);
      if (retracted) media.rewind();
      const news = { entries, corruptAt: media.condition?.index, restarted: retracted, more, complete: media.caughtUp };
      // What was changed in place is named by entries, so all of those come first.
      if (more) return { ...news, contentChanges: [] };
      const ring = media.changesSince(seen);
      ({ seen } = ring);
      const isForeign = (change: InPlaceChange) => !ownEpochs.has(change.epoch);
      return {
        ...news,
        contentChanges:
          ring.type === "overflow"
            ? "all"
            : ring.changes.filter(isForeign).map(({ file, mtime }) => ({ index: file, mtime })),
      };
    },
    rewind: () => media.rewind(),
    published: () => media.published(),
    watch: (intervalMs, onNews) => media.watch(intervalMs, onNews),
  };
}

export function dataMemory(media: VolumeMedia, regionGuard: number): DataMemory {
  const { window } = media;
  return {
    window: window.id,
    regionGuard,
    isCurrent: () => media.isCurrent(),
    reportedBad: () => window.reportedBad(),
    zero(offset, length, check) {
      // Stores take real memory for what was a hole in a simulated device, so only what cannot be a hole is stored.
      if (media.device.kind === "file" && length <= ALLOC_UNIT) {
        check();
        media.zeroNow(offset, length);
        return undefined;
      }
      const end = offset + length;
      const from = roundUp(offset, media.device.zeroAlignBytes);
      const to = roundDown(end, media.device.zeroAlignBytes);
      if (from >= to) {
        check();
        if (length > ZERO_AT_ONCE) return window.zeroRange(offset, length);
        window.zero(offset, length);
        return undefined;
      }
      if (offset < from) {
        check();
        window.zero(offset, from - offset);
      }
      if (to < end) {
        check();
        window.zero(to, end - to);
      }
      return media.zero({ offset: from, length: to - from }, { check });
    },
    zeroNow: (offset, length) => media.zeroNow(offset, length),
    async copy(from, to, length, check) {
      for (let done = 0; done < length; done += COPY_CHUNK) {
        check();
        const bytes = window.read(from + done, Math.min(COPY_CHUNK, length - done));
        window.copyIn(to + done, bytes);
        await yieldToOthers();
      }
    },
    invalidate: media.coherent ? undefined : (offset, length) => invalidate(media, offset, length),
  };
}

/**
 * Writes back what a server of this node that was killed may have left in the caches of this host, in ranges that its
 * owner slot holds for unsealed files: lines at the ends of writes that it was at. They must not come over what is
 * written there next.
 */
export async function writeBackReserved(media: VolumeMedia, slot: number): Promise<void> {
  if (media.coherent || !media.extended) return;
  for (const { offset, length } of media.readSlot(slot).value?.reserved ?? []) {
    const end = Math.min(offset + length, media.window.length);
    for (let at = offset; at < end; at += INVALIDATE_CHUNK) {
      media.window.flush(at, Math.min(INVALIDATE_CHUNK, end - at));
      await yieldToOthers();
    }
  }
}

function invalidate({ window }: VolumeMedia, offset: number, length: number): undefined | Promise<void> {
  const first = Math.min(length, INVALIDATE_CHUNK);
  window.invalidate(offset, first);
  return first === length ? undefined : invalidateRest(window, offset + first, length - first);
}

async function invalidateRest(window: VolumeMedia["window"], offset: number, length: number): Promise<void> {
  for (let done = 0; done < length; done += INVALIDATE_CHUNK) {
    await yieldToOthers();
    window.invalidate(offset + done, Math.min(INVALIDATE_CHUNK, length - done));
  }
}

/** `slot` is the owner slot of this node. */
export function logWriter(media: VolumeMedia, writer: MediaWriter, slot: number): LogWriter {
  const others = media.reservationsOfOthers(slot);
  return {
    guard: writer.guard,
    get nextIndex() {
      return writer.nextIndex;
    },
    append: (entries) => void writer.append(entries),
    publishReservations: (ranges) => writer.publishReservations(ranges),
    recordChanged: (index, mtime) => writer.recordChanged(index, Date.now(), mtime),
    foreignReservations: others.ranges,
    unknownReservations: others.findings.map(({ message }) => message),
    holds: () => writer.holds(),
  };
}

/** Without what a volume record has room for: other nodes hear of new files alone, and none of them reserves space. */
export function stockLogWriter(writer: StockLogWriter): LogWriter {
  return {
    guard: 0,
    get nextIndex() {
      return writer.nextIndex;
    },
    append: (entries) => writer.append(entries),
    publishReservations: () => {},
    recordChanged: () => {},
    foreignReservations: [],
    unknownReservations: [],
    holds: () => writer.holds(),
  };
}
