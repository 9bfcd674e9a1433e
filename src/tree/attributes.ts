import { FamfsError } from "../base/index.ts";
import type { Time } from "../format/index.ts";
import type { TreeContext } from "./context.ts";
import { shownPermissions } from "./mount-group.ts";
import { isUnsealed, type TreeNode } from "./nodes.ts";
import { refreshTimes, sizeOf } from "./open-file.ts";
import { extentsOf } from "./space.ts";
import { sameTime } from "./times.ts";
import { keptLength, totalLength } from "./unsealed-file.ts";

const S_IFMT = { file: 0o100000, directory: 0o040000, symlink: 0o120000 } as const;

/** Attributes and names stay valid in the kernel until it is told otherwise. */
export const UNTIL_INVALIDATED = Number.POSITIVE_INFINITY;

export interface NodeAttributes {
  readonly nodeid: number;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly allocatedBytes: number;
  readonly atime: Time;
  readonly mtime: Time;
  readonly ctime: Time;
  readonly validSeconds: number;
}

export interface AttributeUpdate {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly atime?: Time | "now";
  readonly mtime?: Time | "now";
}

export class AttributesOfNodes {
  readonly #ctx: TreeContext;

  constructor(ctx: TreeContext) {
    this.#ctx = ctx;
  }

  get(node: TreeNode): NodeAttributes {
    const { maps } = this.#ctx.options;
    this.#refreshTimes(node);
    const { mode, gid } = shownPermissions(node, this.#ctx.settings.mountGroup);
    const linked = this.#isLinked(node);
    return {
      nodeid: node.nodeid,
      mode: S_IFMT[node.kind] | mode,
      nlink: !linked ? 0 : node.kind === "directory" ? 2 + node.children.directories : 1,
      uid: node.uid,
      gid,
      size: node.kind === "file" ? sizeOf(node, maps) : node.kind === "symlink" ? node.target.length : 0,
      allocatedBytes: this.#allocated(node),
      atime: node.atime,
      mtime: node.mtime,
      ctime: node.ctime,
      validSeconds: UNTIL_INVALIDATED,
    };
  }

  /**
   * Whether `update` needs an entry: what is in the log changes. Scripts that start pods chown and chmod all of a
   * volume that is right already; the access and the change time live in memory only.
   */
  needsLog(node: TreeNode, { mode, uid, gid, mtime }: AttributeUpdate): boolean {
    // What has no name any more may be in the log until what replaces it is: there is no place to log it at.
    if (isUnsealed(node) || !this.#isLinked(node)) return false;
    this.#refreshTimes(node);
    const { mountGroup } = this.#ctx.settings;
    const shown = shownPermissions(node, mountGroup);
    return (
      (mode !== undefined && (mode & 0o7777) !== shown.mode) ||
      (uid !== undefined && uid !== node.uid) ||
      (mountGroup === undefined && gid !== undefined && gid !== node.gid) ||
      (mtime !== undefined && (mtime === "now" || !sameTime(mtime, node.mtime)))
    );
  }

  /** chmod, chown, utimes. What the log has changes there first, in one entry. Needs the log for that. */
  set(node: TreeNode, update: AttributeUpdate): void {
    const needsLog = this.needsLog(node, update);
    const now = this.#ctx.now();
    const mtime = update.mtime === "now" ? now : (update.mtime ?? node.mtime);
    // Where the volume is mounted for a group, what changes is that group's from then on, with the mode that it shows.
    const { mountGroup } = this.#ctx.settings;
    const shown = shownPermissions(node, mountGroup);
    const next = {
      mode: (update.mode ?? shown.mode) & 0o7777,
      uid: update.uid ?? node.uid,
      gid: mountGroup ?? update.gid ?? node.gid,
      mtime,
    };
    if (needsLog) {
      const { transactions } = this.#ctx;
      const relink = transactions.relink(node);
      if (relink.type !== "relink") throw new FamfsError("INTERNAL", "a RELINK was expected");
      transactions.requireForNew(1);
      transactions.append([{ entry: { ...relink, ...next } }]);
    }
    // Otherwise it shows what is asked already.
    if (needsLog || isUnsealed(node) || !this.#isLinked(node)) Object.assign(node, next);
    node.ctime = now;
    if (update.atime !== undefined) node.atime = update.atime === "now" ? now : update.atime;
    if (update.mtime !== undefined && node.kind === "file" && node.open !== undefined) {
      node.open.timesSetMs = this.#ctx.options.clock.wallMs();
    }
    if (needsLog) this.#ctx.staleTimes.delete(node); // the entry has the time of now
  }

  #isLinked(node: TreeNode): boolean {
    return node.parent !== undefined || node === this.#ctx.nodes.root;
  }

  #refreshTimes(node: TreeNode): void {
    if (node.kind !== "file" || !refreshTimes(node, this.#ctx.options.maps)) return;
    if (node.sealed !== undefined) this.#ctx.staleTimes.add(node);
  }

  #allocated(node: TreeNode): number {
    if (node.kind !== "file") return 0;
    const { content } = node;
    if (content.type === "sealed") return totalLength(extentsOf(content.layout));
    return Math.min(content.capacity, keptLength(content, sizeOf(node, this.#ctx.options.maps)));
  }
}
