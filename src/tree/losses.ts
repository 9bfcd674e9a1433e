import { FamfsError, hasCode } from "../base/index.ts";
import type { TreeNode } from "./nodes.ts";
import { stale } from "./ownership.ts";

/**
 * What was acknowledged and then dropped with a lost ownership. Each call that promises that something is in the log
 * says so once, as fsync does for data that could not be written: fsync of the directory or of what has the name now,
 * the seal attribute, and syncfs.
 */
export class Losses {
  #volume = false;
  readonly #synced = new WeakSet<TreeNode>();
  readonly #sealed = new WeakSet<TreeNode>();

  /** `nodes`: what was dropped, where it lay, and what has its name now. */
  add(nodes: Iterable<TreeNode | undefined>): void {
    this.#volume = true;
    for (const node of nodes) {
      if (node === undefined) continue;
      this.#synced.add(node);
      this.#sealed.add(node);
    }
  }

  /** What an fsync of `node`, a file or a directory, has to fail with. */
  takeSync(node: TreeNode): FamfsError | undefined {
    return this.#synced.delete(node) ? stale() : undefined;
  }

  /** The seal attribute. The kernel repeats a setxattr that ends with ESTALE, and would hear only the second answer. */
  takeSeal(node: TreeNode): FamfsError | undefined {
    if (!this.#sealed.delete(node)) return undefined;
    return new FamfsError("CHANGES_LOST", `changes of node ${node.nodeid} were lost: another node took the log over`);
  }

  /** syncfs. */
  takeVolume(): FamfsError | undefined {
    const lost = this.#volume;
    this.#volume = false;
    return lost ? stale() : undefined;
  }
}

/** Fails with what was lost before. A loss by `work` itself is told by that. */
export async function telling(work: Promise<void>, take: () => FamfsError | undefined): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (hasCode(error, "OWNER_STALE")) take();
    throw error;
  }
  const lost = take();
  if (lost !== undefined) throw lost;
}
