import type { SealedTree } from "../format/index.ts";
import { AttributesOfNodes } from "./attributes.ts";
import { ChangeFeed } from "./change-feed.ts";
import { Coherence } from "./coherence.ts";
import type { TreeContext } from "./context.ts";
import { FileSizes } from "./file-size.ts";
import { Invalidations } from "./invalidations.ts";
import { Losses } from "./losses.ts";
import { Names } from "./names.ts";
import { Nodes } from "./nodes.ts";
import { OpenFiles } from "./open-files.ts";
import { DEFAULT_SETTINGS, type TreeSettings, type VolumeTreeOptions } from "./options.ts";
import { Ownership } from "./ownership.ts";
import { Places } from "./places.ts";
import { Sealer } from "./sealing.ts";
import { Space } from "./space.ts";
import { msToTime } from "./times.ts";
import { Transactions } from "./transactions.ts";
import { WriterTerm } from "./writer-term.ts";

/** What a tree is made of; the rest of it only `ctx` knows. */
export interface TreeParts {
  readonly ctx: TreeContext;
  readonly names: Names;
  readonly files: OpenFiles;
  readonly attributes: AttributesOfNodes;
  readonly feed: ChangeFeed;
}

export interface TreeHooks {
  readonly requireChangeable: () => void;
  readonly ownerLost: (message: string) => void;
}

/**
 * The parts of a tree, each told of those it needs. Several know each other: what is passed as a function is called
 * only once all of them are there.
 */
export function assembleTree(options: VolumeTreeOptions, { requireChangeable, ownerLost }: TreeHooks): TreeParts {
  const settings: TreeSettings = { ...DEFAULT_SETTINGS, ...options.settings };
  const now = () => msToTime(options.clock.wallMs());
  const sealed = options.createSealed();
  const nodes = new Nodes(sealed.root, now);
  const model = (): SealedTree => ctx.sealed;
  const space = new Space({
    data: options.data,
    createFree: options.createFree,
    live: () => model().byIndex.values(),
    exclusive: options.exclusive,
  });
  const ownership = new Ownership({
    grant: options.grant,
    clock: options.clock,
    logger: options.logger,
    minimumHoldMs: settings.minimumHoldMs,
    events: {
      catchUp: (writer) => term.catchUp(writer),
      gained: (writer) => term.gained(writer),
      yielding: ({ forced }) => term.yielding(forced),
      yielded: () => term.yielded(),
      lost: (error) => {
        term.lost();
        ownerLost(error.message);
      },
      isBusy: () => files.isBusy || places.isAwaiting,
    },
  });
  const places = new Places(options.clock, () => ownership.changed());
  const transactions = new Transactions({
    sealed: model,
    nodes,
    space,
    ownership,
    logger: options.logger,
    capacity: options.logCapacity,
    extended: options.extended,
  });
  const ctx: TreeContext = {
    options,
    settings,
    sealed,
    nodes,
    space,
    ownership,
    transactions,
    places,
    losses: new Losses(),
    coherence: new Coherence({
      memory: options.memory,
      maps: options.maps,
      clock: options.clock,
      logger: options.logger,
      kernel: new Invalidations(options.clock),
      nodes,
      ofIndex(index) {
        const node = model().byIndex.get(index);
        return node === undefined ? undefined : nodes.reach(node);
      },
      writer: () => ownership.yieldingWriter,
    }),
    staleTimes: new Set(),
    now,
    requireChangeable,
    touchDirectory(directory) {
      directory.mtime = now();
      directory.ctime = directory.mtime;
      if (directory.sealed !== undefined) ctx.staleTimes.add(directory);
    },
    // These two are made of the context themselves.
    get sizes() {
      return sizes;
    },
    get sealer() {
      return sealer;
    },
  };
  const sizes = new FileSizes(ctx);
  const sealer = new Sealer(ctx);
  const names = new Names(ctx);
  const files = new OpenFiles(ctx);
  const attributes = new AttributesOfNodes(ctx);
  const feed = new ChangeFeed(ctx);
  const term = new WriterTerm(ctx, { files, feed });
  return { ctx, names, files, attributes, feed };
}
