import { closeSync } from "node:fs";
import { type Extent, FamfsError, hasCode, type Logger } from "../base/index.ts";
import type { FuseServer, Operations, Session, SessionOptions } from "../fuse/index.ts";
import { type Device, readSystemUuid, VolumeMedia, whyNotOwner } from "../media/index.ts";
import {
  openVolumeTree,
  type TreeCondition,
  type TreeSettings,
  type VolumeTree,
  type WriterTermsSource,
} from "../tree/index.ts";
import type { ReplayFigures, VolumeFigures } from "./fuse-server/figures.ts";
import type { VolumeHealth } from "./fuse-server/messages.ts";
import type { VolumeServer } from "./fuse-server/sessions.ts";

export interface ServeVolumeOptions {
  /** Open, and the caller's. */
  readonly device: Device;
  readonly region: Extent;
  readonly fuse: FuseServer;
  /** A mounted /dev/fuse descriptor; ours from the start of the call. */
  readonly fd: number;
  /** This node in the volume's owner slots; `slot` may depend on what is in memory. */
  readonly node: {
    readonly nodeId: string;
    readonly bootId: string;
    readonly slot: number | ((media: VolumeMedia) => number);
  };
  readonly terms: WriterTermsSource;
  /** What the volume record in memory must say. */
  readonly expect?: { readonly volumeUuid: string; readonly regionGeneration: number } | undefined;
  readonly settings?: Partial<TreeSettings>;
  /** Something is to be written: NOT_SUPPORTED where this host may not. */
  readonly forWriting?: boolean;
  /** By which the stock tools know this host; default: what they say. */
  readonly systemUuid?: string;
  readonly replayIntervalMs?: number;
  /** No other node has it staged now. */
  readonly exclusive: boolean;
  /** Whether the caches of all hosts of the pool agree by themselves. */
  readonly coherent?: boolean;
  /** The mount may be ID-mapped. */
  readonly idmap?: boolean;
  /** `user.famfs.seal` can be read as well as set: costs a request for each new file that is written. */
  readonly readableXattrs?: boolean;
  /** INIT flags that are not asked for: what an older kernel lacks. */
  readonly withhold?: SessionOptions["withhold"];
  readonly logger: Logger;
  /** What the volume's condition should say; undefined when it is over. */
  readonly onProblem?: (noticed: TreeCondition | undefined) => void;
}

interface State {
  exclusive: boolean;
  condition: TreeCondition | undefined;
}

const REPLAY_INTERVAL_MS = 1;

/**
 * Serves one volume on one FUSE connection: its memory, its tree, the session and the look at its log. Used by the
 * FUSE server process of the node plugin and, in process, by the command line.
 */
export class ServedVolume implements VolumeServer {
  readonly tree: VolumeTree;
  readonly session: Session;
  readonly #media: VolumeMedia;
  readonly #state: State;
  #disposed: Promise<void> | undefined;

  private constructor(tree: VolumeTree, session: Session, media: VolumeMedia, state: State) {
    this.tree = tree;
    this.session = session;
    this.#media = media;
    this.#state = state;
  }

  /** Answers once INIT is answered and the log is replayed. Throws what opening the volume throws. */
  static async open(options: ServeVolumeOptions): Promise<ServedVolume> {
    const { fuse, fd, device, region, logger, expect } = options;
    await using stack = new AsyncDisposableStack();
    let handedOn = false;
    stack.defer(() => {
      if (!handedOn) closeSync(fd);
    });
    const writable = device.writable;
    const { coherent = true, settings = {} } = options;
    const { dataWriters = "one" } = settings;
    const media = stack.use(await VolumeMedia.open(device, region, { writable, coherent, dataWriters }));
    if (expect !== undefined) requireSame(media, expect);
    const systemUuid = media.extended ? undefined : (options.systemUuid ?? (await readSystemUuid()));
    const notOurs = media.extended ? undefined : whyNotOwner(media, systemUuid);
    if (notOurs !== undefined && options.forWriting === true) {
      throw new FamfsError("NOT_SUPPORTED", `${notOurs}; here use ReadOnlyMany or readOnly: true`);
    }
    const state: State = { exclusive: options.exclusive, condition: undefined };
    const onCondition = (condition: TreeCondition | undefined) => {
      // A tree says it each time it notices.
      if (state.condition?.message === condition?.message) return;
      state.condition = condition;
      options.onProblem?.(condition);
    };
    const terms: WriterTermsSource = {
      acquire: async (request) => {
        const acquired = await options.terms.acquire(request);
        // What was lost with the log was told; from now on this node is an owner like any other.
        if (state.condition?.code === "OWNER_LOST") onCondition(undefined);
        return acquired;
      },
      release: (epoch) => options.terms.release(epoch),
    };
    const { slot } = options.node;
    const tree = stack.use(
      await openVolumeTree({
        media,
        node: { ...options.node, slot: typeof slot === "number" ? slot : slot(media) },
        terms,
        systemUuid,
        maps: fuse.fileMaps,
        exclusive: () => state.exclusive,
        logger,
        settings: { ...settings, readOnly: settings.readOnly === true || !writable },
        onCondition,
      }),
    );
    handedOn = true;
    const session = await fuse.attach({
      fd,
      operations: operationsOf(tree),
      options: {
        idmap: options.idmap ?? false,
        readableXattrs: options.readableXattrs ?? false,
        withhold: options.withhold ?? [],
      },
    });
    tree.attachKernel(session.caches, {
      directIoAllowMmap: session.kernel.granted.includes("DIRECT_IO_ALLOW_MMAP"),
    });
    tree.watch(options.replayIntervalMs ?? REPLAY_INTERVAL_MS);
    stack.move();
    return new ServedVolume(tree, session, media, state);
  }

  /** Resolves when the mount is gone. */
  get ended(): Promise<void> {
    return this.session.ended;
  }

  seal(): Promise<void> {
    return this.tree.seal();
  }

  abandon(): void {
    this.tree.abandon();
  }

  handOver(options: { readonly forced: boolean; readonly signal: AbortSignal }): Promise<boolean> {
    return this.tree.handOver(options);
  }

  setExclusive(exclusive: boolean): void {
    this.#state.exclusive = exclusive;
  }

  setStalled(stalled: boolean): void {
    this.tree.setStalled(stalled);
  }

  async health(): Promise<VolumeHealth> {
    return { ...this.#usage(), problem: this.#state.condition?.message };
  }

  figures(): VolumeFigures {
    const { openHandles, unsealedCount, isWriter } = this.tree;
    return {
      requests: this.session.stats(),
      ...this.#usage(),
      replay: this.#replay(),
      openHandles,
      unsealed: unsealedCount,
      isWriter,
    };
  }

  #usage(): Pick<VolumeHealth, "bytes" | "logSlots"> {
    const { blockSize, blocks, freeBlocks, files, freeFiles } = this.tree.status();
    const total = blocks * blockSize;
    const available = freeBlocks * blockSize;
    return {
      bytes: { total, available, used: total - available },
      logSlots: { total: files, available: freeFiles, used: files - freeFiles },
    };
  }

  #replay(): ReplayFigures | undefined {
    try {
      return this.tree.replay();
    } catch (error) {
      if (hasCode(error, "MEMORY_ERROR")) return undefined; // the volume's condition says so
      throw error;
    }
  }

  /** No more requests; what is unsealed is sealed, the log is released, the memory unmapped. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.#dispose();
    return this.#disposed;
  }

  async #dispose(): Promise<void> {
    await using stack = new AsyncDisposableStack();
    stack.use(this.#media);
    stack.use(this.tree);
    this.session.detach();
  }
}

export function serveVolume(options: ServeVolumeOptions): Promise<ServedVolume> {
  return ServedVolume.open(options);
}

/** File maps are the session's own numbers: the tree gives them back as it got them. */
function operationsOf(tree: VolumeTree): Operations {
  const checked: Omit<Operations, "open" | "create"> = tree;
  return checked as Operations;
}

function requireSame(media: VolumeMedia, expect: { volumeUuid: string; regionGeneration: number }): void {
  const { record } = media;
  if (record?.volumeUuid === expect.volumeUuid && record.generation === expect.regionGeneration) return;
  throw new FamfsError(
    "VOLUME_RECORD_CORRUPT",
    `${media.window.what} holds ${record === undefined ? "a stock file system" : `volume ${record.volumeUuid} generation ${record.generation}`}, ` +
      `expected was volume ${expect.volumeUuid} generation ${expect.regionGeneration}`,
  );
}
