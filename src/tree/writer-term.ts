import type { ChangeFeed } from "./change-feed.ts";
import type { TreeContext } from "./context.ts";
import { isUnsealed } from "./nodes.ts";
import { refreshTimes } from "./open-file.ts";
import type { OpenFiles } from "./open-files.ts";
import type { LogWriter } from "./ports.ts";
import { letGo } from "./removed.ts";
import { sameTime } from "./times.ts";
import type { Step } from "./transactions.ts";

/** What the tree does when this node becomes the log's owner, gives it up, or loses it (OwnershipEvents). */
export class WriterTerm {
  readonly #ctx: TreeContext;
  readonly #files: OpenFiles;
  readonly #feed: ChangeFeed;

  constructor(ctx: TreeContext, { files, feed }: { readonly files: OpenFiles; readonly feed: ChangeFeed }) {
    this.#ctx = ctx;
    this.#files = files;
    this.#feed = feed;
  }

  /** An operation that waited for the grant then sees what other nodes did before. */
  async catchUp(writer: LogWriter): Promise<void> {
    await this.#feed.catchUp(writer.nextIndex);
    await this.#ctx.coherence.settled();
  }

  gained(writer: LogWriter): void {
    this.#ctx.space.attach(writer);
    this.#files.setGuards();
    if (!this.#ctx.ownership.isStalled) this.#files.resumeWriters();
  }

  async yielding(forced: boolean): Promise<void> {
    if (forced) await this.#files.pauseWriters();
    await this.#ctx.sealer.sealAll({ forced });
    this.#files.nameRewritten();
    this.#persistTimes();
  }

  yielded(): void {
    try {
      this.#ctx.space.settle();
    } finally {
      this.#ctx.space.detach();
    }
  }

  /** Times that changed with names and data: one entry each, if the log has room for them. */
  #persistTimes(): void {
    const { staleTimes, transactions, options } = this.#ctx;
    if (!options.extended) return;
    for (const node of staleTimes) {
      if (node.kind === "file") refreshTimes(node, options.maps);
      const linked = node.parent !== undefined || node === this.#ctx.nodes.root;
      const inLog = node.sealed !== undefined && !isUnsealed(node);
      if (!linked || !inLog || sameTime(node.sealed?.mtime, node.mtime)) continue;
      if (transactions.freeForNew === 0) break;
      const steps: Step[] = [{ entry: transactions.relink(node) }];
      transactions.append(steps);
    }
    staleTimes.clear();
  }

  /** Changes that are not in the log will never be; readers of open files keep what they have. */
  lost(): void {
    const { sealer, transactions, nodes, places, losses, coherence, space, staleTimes } = this.#ctx;
    this.#files.lose();
    const dropped = sealer.unsealed.map((node) => ({ node, parent: node.parent, name: node.name }));
    for (const { node, parent, name } of dropped) {
      sealer.forget(node);
      transactions.withdraw(node);
      if (node.kind === "file" && node.content.type === "unsealed") node.content.lost = true;
      if (node.sealed !== undefined) continue;
      nodes.detach(node);
      places.takenAway(node);
      if (parent !== undefined) coherence.kernel.name(parent.nodeid, name);
      letGo(this.#ctx, node);
    }
    staleTimes.clear();
    this.#feed.restore();
    losses.add(dropped.flatMap(({ node, parent, name }) => [node, parent, parent?.children.get(name)]));
    space.detach();
  }
}
