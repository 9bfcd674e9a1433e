import { FamfsError, type RequestContext } from "../base/index.ts";
import { type DirectoryNode, pathOf, type TreeNode } from "./nodes.ts";
import type { Clock } from "./ports.ts";

/**
 * How long the grant is kept for a request that was told to look again. The kernel sends it at once; the rest is for a
 * busy machine, and for a program that was killed in between.
 */
const SECOND_LOOK_MS = 1000;
/** How long the kernel may still come by a name that another node gave to something else. */
const STALE_NAME_MS = 1000;

/** The names that led to a node when a request named it. */
export interface Place {
  readonly node: TreeNode;
  /** The node and the directories above it, each with where it was. */
  readonly steps: readonly { readonly node: TreeNode; readonly parent: DirectoryNode; readonly name: string }[];
}

export function placeOf(node: TreeNode): Place {
  const steps: { node: TreeNode; parent: DirectoryNode; name: string }[] = [];
  for (let at = node; at.parent !== undefined; at = at.parent)
    steps.push({ node: at, parent: at.parent, name: at.name });
  return { node, steps };
}

interface Doubt {
  /** Monotonic. */
  readonly untilMs: number;
  /** Programs that have been told to look again: they come by what they hold now, not by an old name. */
  readonly told: Set<number>;
}

/**
 * The kernel names a node by a number that a path led to. Before a change is made, the path may lead elsewhere: another
 * node moved or replaced what it named while the request waited for the grant, or a moment ago and the kernel has not
 * heard of it yet. To change the old node then would lose an acknowledged write. NODE_STALE makes the kernel look the
 * path up again, but only once, so the grant stays here until its second request has come: by then no other node can
 * have changed the path.
 */
export class Places {
  readonly #clock: Clock;
  /** Is told when the grant may go, as far as it was kept for a second look. */
  readonly #ownership: { changed(): void };
  readonly #doubts = new WeakMap<TreeNode, Doubt>();
  readonly #awaited = new Map<number, Disposable>();

  constructor(clock: Clock, ownership: { changed(): void }) {
    this.#clock = clock;
    this.#ownership = ownership;
  }

  /** Whether a program was told to look again and has not done so yet. */
  get isAwaiting(): boolean {
    return this.#awaited.size > 0;
  }

  /** Another node gave the name of `node` away: what comes to it may have come by the old name. */
  takenAway(node: TreeNode): void {
    // The grant was elsewhere: whoever still is to look again may come by a name of before.
    for (const timer of this.#awaited.values()) timer[Symbol.dispose]();
    this.#awaited.clear();
    // What has no name any more is doubted as long as it is held.
    const untilMs = node.parent === undefined ? Infinity : this.#clock.monotonicMs() + STALE_NAME_MS;
    this.#doubts.set(node, { untilMs, told: new Set() });
  }

  /** Whether `require` would refuse a request that has just come. */
  isDoubted({ node, steps }: Place, { caller }: RequestContext): boolean {
    return this.#isDoubted(node, caller.pid) || steps.some((step) => this.#isDoubted(step.node, caller.pid));
  }

  /** NODE_STALE unless the names of `place` still lead there. Needs the log. */
  require(place: Place, by: RequestContext): void {
    const { pid } = by.caller;
    // What it found at its second look is what is there: nobody else could change it since. It may be new in its place.
    const isSecondLook = this.#awaited.has(pid);
    this.#awaited.get(pid)?.[Symbol.dispose]();
    this.#awaited.delete(pid);
    const moved = place.steps.some(({ node, parent, name }) => node.parent !== parent || node.name !== name);
    if (!moved && (isSecondLook || !this.isDoubted(place, by))) {
      this.#ownership.changed();
      return;
    }
    for (const node of [place.node, ...place.steps.map((step) => step.node)]) this.#doubts.get(node)?.told.add(pid);
    this.lookAgain(by);
    throw new FamfsError(
      "NODE_STALE",
      `another node moved, replaced or removed what was ${pathOf(place.node)}: it must be looked up again`,
    );
  }

  /** The request ends with NODE_STALE: the grant stays for the next one of its program. */
  lookAgain({ caller: { pid } }: RequestContext): void {
    this.#awaited.get(pid)?.[Symbol.dispose]();
    const forget = () => {
      this.#awaited.delete(pid);
      this.#ownership.changed();
    };
    this.#awaited.set(pid, this.#clock.schedule(SECOND_LOOK_MS, forget));
  }

  #isDoubted(node: TreeNode, pid: number): boolean {
    const doubt = this.#doubts.get(node);
    return doubt !== undefined && !doubt.told.has(pid) && this.#clock.monotonicMs() < doubt.untilMs;
  }
}
