import type { Mutation } from "./table.ts";

const PROMISE = "What a program that waits for the grant is answered";
const OWNERSHIP = "src/tree/ownership.ts";

/** What a request that waits is promised, and what was removed while somebody holds it. */
export const REQUEST_MUTATIONS: readonly Mutation[] = [
  {
    name: "interrupted-is-not-done-later",
    promise: PROMISE,
    file: OWNERSHIP,
    search: "return await unlessAborted(Promise.race([work, late]), signal);",
    replace: "return await unlessAborted(Promise.race([work, late]), AbortSignal.any([])).finally(() => void signal);",
    tests: ["src/tree/interrupted.test.ts", "src/tree/ownership-phases.test.ts"],
  },
  {
    name: "waits-are-bounded",
    promise: PROMISE,
    file: OWNERSHIP,
    search: "using _timer = this.#options.clock.schedule(leftMs, () => reject(busy(timeoutMs)));",
    replace: "void [leftMs, timeoutMs, reject];",
    tests: ["src/tree/ownership-phases.test.ts"],
  },
  {
    name: "one-budget-of-time",
    promise: PROMISE,
    file: OWNERSHIP,
    search: "return this.acquire(by.budget.leftMs(limitMs), by.signal)",
    replace: "return this.acquire(limitMs, by.signal)",
    tests: ["src/tree/interrupted.test.ts"],
  },
  {
    name: "joined-waits-on",
    promise: PROMISE,
    file: OWNERSHIP,
    search: "!(joined && isTimeout(result.error))",
    replace: "isTimeout !== undefined",
    tests: ["src/tree/ownership-phases.test.ts"],
  },
  {
    name: "losses-are-told-by-the-seal-attribute",
    promise: PROMISE,
    file: "src/tree/losses.ts",
    search: "this.#sealed.add(node);",
    replace: "",
    tests: ["src/tree/losses.test.ts"],
  },
  {
    name: "held-bytes",
    promise: PROMISE,
    file: "src/fuse/held-bytes.ts",
    search: 'if (before + bytes > WAITING_OF_CONNECTION) throw overloaded(before, "this mount");',
    replace: "",
    tests: ["src/fuse/session.test.ts"],
  },
  {
    name: "held-by-the-kernel",
    promise: "Traps",
    file: "src/tree/volume-tree.ts",
    search: "if (node !== undefined) node.lookups++;",
    replace: "void node;",
    tests: ["src/tree/removed.test.ts"],
  },
  {
    name: "forgotten-by-the-kernel",
    promise: "Traps",
    file: "src/tree/volume-tree.ts",
    search: "node.lookups = Math.max(0, node.lookups - count);",
    replace: "void count;",
    tests: ["src/tree/removed.test.ts"],
  },
];
