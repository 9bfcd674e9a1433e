import { FreeSpace } from "../alloc/index.ts";
import { ALLOC_UNIT, type Logger, roundDown } from "../base/index.ts";
import { FILLER_RUN, SealedTree } from "../format/index.ts";
import { type LogWriter as MediaWriter, StockLogWriter, type VolumeMedia, whyNotOwner } from "../media/index.ts";
import type { TreeSettings } from "./options.ts";
import type { FileMaps, TreeCondition, WriterGrant } from "./ports.ts";
import { TurnGrant } from "./turn-grant.ts";
import { dataMemory, logReader, logWriter, stockLogWriter, systemClock, writeBackReserved } from "./volume-ports.ts";
import { VolumeTree } from "./volume-tree.ts";

/** Decides which node writes: the store behind the node plugin, or "always this one" on a command line. */
export interface WriterTermsSource {
  /** The epoch of this node's ownership, above `highestEpoch`. OWNER_BUSY after `timeoutMs`. */
  acquire(options: {
    readonly timeoutMs: number;
    readonly highestEpoch: number;
    readonly signal: AbortSignal;
  }): Promise<{ readonly epoch: number }>;
  /** Gives back what was acquired as `epoch`, and nothing newer. */
  release(epoch: number): Promise<void>;
  /**
   * Whether the node of `slot` may write no more. Without it, turns at the log do not go through the memory: the log is
   * this node's whenever `acquire` says so.
   */
  isStruck?(slot: number): Promise<boolean>;
}

export interface OpenVolumeOptions {
  /** Stays the caller's. */
  readonly media: VolumeMedia;
  readonly node: { readonly nodeId: string; readonly bootId: string; readonly slot: number };
  /** Not asked for a stock file system, which its owner alone writes. */
  readonly terms: WriterTermsSource;
  /** By which the stock tools know this host: `readSystemUuid`. */
  readonly systemUuid?: string | undefined;
  readonly maps: FileMaps;
  readonly exclusive: () => boolean;
  readonly logger: Logger;
  readonly settings?: Partial<TreeSettings>;
  readonly onCondition?: (condition: TreeCondition | undefined) => void;
  /** This node became the log's owner. */
  readonly onOwner?: () => void;
  /** See `TurnGrantOptions`. */
  readonly silenceMs?: number;
}

/** An epoch says whose it is, so that no two nodes ever claim with one. */
const EPOCHS_PER_ROUND = 512;

/** The file system of a volume in memory, replayed to the end of its log. MEMORY_ERROR. */
export async function openVolumeTree(options: OpenVolumeOptions): Promise<VolumeTree> {
  const { media, node } = options;
  const ownEpochs = new Set<number>();
  const regionLength = roundDown(media.region.length, ALLOC_UNIT);
  const data = { offset: media.dataOffset, length: regionLength - media.dataOffset };
  const { record } = media;
  const giveWay = (signal: AbortSignal): Promise<boolean> => tree.handOver({ forced: false, signal });
  await using stack = new AsyncDisposableStack();
  const tree: VolumeTree = stack.use(
    new VolumeTree({
      log: logReader(media, ownEpochs),
      memory: dataMemory(media, media.regionGuard()),
      createSealed: () =>
        new SealedTree({
          regionLength: media.region.length,
          dataOffset: media.dataOffset,
          allocUnit: media.superblock.allocUnit,
          extended: media.extended,
          rootUid: record?.rootUid ?? 0,
          rootGid: record?.rootGid ?? 0,
          rootMode: record?.rootMode ?? 0o755,
        }),
      extended: media.extended,
      readOnlyBecause: media.extended ? undefined : whyNotOwner(media, options.systemUuid),
      data,
      createFree: () => new FreeSpace(data),
      // The log writer keeps the last slots for the next take-over.
      logCapacity: media.extended ? media.logSlots - FILLER_RUN : media.logSlots,
      generation: generationOf(record?.volumeUuid ?? media.superblock.uuid),
      grant: media.extended ? grantOf(options, ownEpochs, giveWay) : stockGrant(media, options.systemUuid),
      maps: options.maps,
      clock: systemClock,
      logger: options.logger,
      exclusive: options.exclusive,
      ...(options.settings === undefined ? {} : { settings: options.settings }),
      ...(options.onCondition === undefined ? {} : { onCondition: options.onCondition }),
    }),
  );
  await writeBackReserved(media, node.slot);
  await tree.catchUp();
  stack.move();
  return tree;
}

function grantOf(
  options: OpenVolumeOptions,
  ownEpochs: Set<number>,
  giveWay: (signal: AbortSignal) => Promise<unknown>,
): WriterGrant {
  const { media, node, terms, logger } = options;
  const isStruck = terms.isStruck?.bind(terms);
  const turns = isStruck === undefined ? undefined : media.turns(node.slot);
  if (turns === undefined || isStruck === undefined) return storeGrant(media, node, terms, ownEpochs);
  return new TurnGrant({
    turns,
    async takeOver() {
      const epoch = nextEpoch(media.highestEpoch(), node.slot);
      ownEpochs.add(epoch);
      const writer = await media.takeOver({ ...node, epoch });
      options.onOwner?.();
      return writer;
    },
    writerOf: (writer) => logWriter(media, writer, node.slot),
    giveWay,
    isStruck,
    clock: systemClock,
    logger,
    ...(options.silenceMs === undefined ? {} : { silenceMs: options.silenceMs }),
  });
}

/** Above `highest`, and no other slot's. */
function nextEpoch(highest: number, slot: number): number {
  const round = Math.floor(highest / EPOCHS_PER_ROUND);
  const next = round * EPOCHS_PER_ROUND + slot;
  return next > highest ? next : next + EPOCHS_PER_ROUND;
}

/** Terms from the store, then the log in memory; released in the opposite order. */
function storeGrant(
  media: VolumeMedia,
  node: OpenVolumeOptions["node"],
  terms: WriterTermsSource,
  ownEpochs: Set<number>,
): WriterGrant {
  let current: { readonly epoch: number; readonly writer?: MediaWriter } | undefined;
  const grant: WriterGrant = {
    async acquire({ timeoutMs, signal }) {
      const { epoch } = await terms.acquire({ timeoutMs, highestEpoch: media.highestEpoch(), signal });
      current = { epoch };
      try {
        ownEpochs.add(epoch);
        const writer = await media.takeOver({ ...node, epoch });
        current = { epoch, writer };
        return logWriter(media, writer, node.slot);
      } catch (error) {
        await Promise.allSettled([grant.release()]); // the first error is the one to tell
        throw error;
      }
    },
    async release() {
      const term = current;
      current = undefined;
      if (term === undefined) return;
      try {
        term.writer?.release();
      } finally {
        await term.writer?.[Symbol.asyncDispose]();
        await terms.release(term.epoch);
      }
    },
  };
  return grant;
}

function stockGrant(media: VolumeMedia, systemUuid: string | undefined): WriterGrant {
  return { acquire: () => stockLogWriter(StockLogWriter.open(media, systemUuid)), release: () => {} };
}

/** The first half of the UUID: what nodeids of this volume mean nowhere else. */
function generationOf(uuid: string): bigint {
  return BigInt(`0x${uuid.replaceAll("-", "").slice(0, 16)}`);
}

/** For a command line, which has the device to itself on this host: any epoch above those in memory. */
export const alwaysMine: WriterTermsSource = {
  acquire: ({ highestEpoch }) => Promise.resolve({ epoch: highestEpoch + 1 }),
  release: () => Promise.resolve(),
};

/** The owner slot of `nodeId`, or one that nobody has used, or the one with the lowest epoch. */
export function chooseSlot(media: VolumeMedia, nodeId: string): number {
  const { slots } = media.ownerSlots();
  const own = slots.find((page) => page.nodeId === nodeId);
  if (own !== undefined) return own.slot;
  const taken = new Set(slots.map((page) => page.slot));
  for (let slot = 0; slot < media.writerSlots; slot++) if (!taken.has(slot)) return slot;
  return slots.toSorted((a, b) => a.epoch - b.epoch)[0]?.slot ?? 0;
}
