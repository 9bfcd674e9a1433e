import { setTimeout as delay } from "node:timers/promises";
import { hasCode } from "../base/index.ts";
import type { TreeContext } from "./context.ts";
import { isHeld, type TreeNode } from "./nodes.ts";

/** How long the kernel's FORGETs may be on their way, through whichever thread read them. */
const FORGETS_MS = 5;

/**
 * `node` lost its name, its last handle, or the kernel's last reference. What it holds goes when nothing leads to it
 * any more: until then it can be looked at and opened as on any other file system (`/proc/self/fd`, a working
 * directory).
 */
export function letGo({ nodes, sizes, space }: TreeContext, node: TreeNode): void {
  if (node.parent !== undefined || node === nodes.root || isHeld(node)) return;
  if (node.kind === "file") {
    if (node.content.type === "unsealed") sizes.discard(node, node.content);
    space.reclaim();
  }
  nodes.letGo(node);
}

/**
 * What `attempt` answers. When space is short it is tried again, once: the kernel says that it needs removed files no
 * more right after they were removed, but on a way of its own, which may be the longer one.
 */
export function afterForgets<T>(attempt: () => T | Promise<T>): T | Promise<T> {
  const again = (error: unknown): Promise<T> => {
    if (!hasCode(error, "NO_SPACE")) throw error;
    return delay(FORGETS_MS).then(attempt);
  };
  try {
    const answer = attempt();
    return answer instanceof Promise ? answer.catch(again) : answer;
  } catch (error) {
    return again(error);
  }
}
