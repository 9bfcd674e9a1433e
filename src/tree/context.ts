import type { SealedTree, Time } from "../format/index.ts";
import type { Coherence } from "./coherence.ts";
import type { FileSizes } from "./file-size.ts";
import type { Losses } from "./losses.ts";
import type { Nodes, TreeNode } from "./nodes.ts";
import type { TreeSettings, VolumeTreeOptions } from "./options.ts";
import type { Ownership } from "./ownership.ts";
import type { Places } from "./places.ts";
import type { Sealer } from "./sealing.ts";
import type { Space } from "./space.ts";
import type { Transactions } from "./transactions.ts";

/** The parts of one volume's tree, for each other. */
export interface TreeContext {
  readonly options: VolumeTreeOptions;
  readonly settings: TreeSettings;
  /** What the log says; another object after a retraction. */
  sealed: SealedTree;
  readonly nodes: Nodes;
  readonly space: Space;
  readonly ownership: Ownership;
  readonly transactions: Transactions;
  readonly places: Places;
  readonly losses: Losses;
  readonly coherence: Coherence;
  readonly sizes: FileSizes;
  readonly sealer: Sealer;
  /** Sealed nodes whose mtime here is newer than in the log. */
  readonly staleTimes: Set<TreeNode>;
  now(): Time;
  /** READ_ONLY where nothing can be changed; says why. */
  requireChangeable(): void;
}
