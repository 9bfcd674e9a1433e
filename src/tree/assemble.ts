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
import { DEFAULT_SETTINGS, type VolumeTreeOptions } from "./options.ts";
import { Ownership } from "./ownership.ts";
import { Places } from "./places.ts";
import { Sealer } from "./sealing.ts";
import { Space } from "./space.ts";
import { clockTime } from "./times.ts";
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
  const now = clockTime(options.clock);
  // Its parts are added as they are made: each is given those it needs, or finds them here when it is used.
  const ctx = {
    options,
    settings: { ...DEFAULT_SETTINGS, ...options.settings },
    sealed: options.createSealed(),
    staleTimes: new Set(),
    losses: new Losses(),
    now,
    requireChangeable,
  } as { -readonly [Part in keyof TreeContext]: TreeContext[Part] };
  const nodes = new Nodes(ctx.sealed.root, now);
  const space = new Space({
    data: options.data,
    createFree: options.createFree,
    live: () => ctx.sealed.byIndex.values(),
    exclusive: options.exclusive,
  });
  const ownership = new Ownership({
    grant: options.grant,
    clock: options.clock,
    logger: options.logger,
    minimumHoldMs: ctx.settings.minimumHoldMs,
    events: {
      catchUp: (writer) => term.catchUp(writer),
      gained: (writer) => term.gained(writer),
      yielding: ({ forced }) => term.yielding(forced),
      yielded: () => term.yielded(),
      lost: (error) => {
        term.lost();
        ownerLost(error.message);
      },
      isBusy: () => files.isBusy || ctx.places.isAwaiting,
    },
  });
  ctx.nodes = nodes;
  ctx.space = space;
  ctx.ownership = ownership;
  ctx.places = new Places(options.clock, ownership);
  ctx.transactions = new Transactions({
    model: ctx,
    nodes,
    space,
    ownership,
    capacity: options.logCapacity,
    extended: options.extended,
  });
  ctx.coherence = new Coherence({
    memory: options.memory,
    maps: options.maps,
    clock: options.clock,
    logger: options.logger,
    kernel: new Invalidations(options.clock),
    nodes,
    ofIndex(index) {
      const node = ctx.sealed.byIndex.get(index);
      return node === undefined ? undefined : nodes.reach(node);
    },
    writer: () => ownership.yieldingWriter,
  });
  ctx.sizes = new FileSizes(ctx);
  ctx.sealer = new Sealer(ctx);
  const names = new Names(ctx);
  const files = new OpenFiles(ctx);
  const attributes = new AttributesOfNodes(ctx);
  const feed = new ChangeFeed(ctx);
  const term = new WriterTerm(ctx, { files, feed });
  return { ctx, names, files, attributes, feed };
}
