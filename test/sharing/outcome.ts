/** What a run comes to, for people and as JSON. */
import { check, type Violation } from "./checker.ts";
import { type ErrorReport, judgeErrors } from "./errors.ts";
import { FaultTimes } from "./faults.ts";
import type { Fault, History, Operation } from "./history.ts";

/** So many failures are told in full; the rest is counted. */
const TOLD = 5;
const HISTORY_BEFORE = 14;
const HISTORY_AFTER = 4;

export interface Run {
  readonly nodes: number;
  readonly seed: number;
  readonly seconds: number;
  readonly history: History;
  /** What went wrong besides: a node that did not come back, findings of fsck, clients that hang. */
  readonly troubles: readonly string[];
}

export interface Outcome {
  readonly nodes: number;
  readonly seed: number;
  readonly seconds: number;
  readonly operations: Readonly<Record<string, number>>;
  readonly total: number;
  readonly faults: Readonly<Record<string, number>>;
  readonly errors: ErrorReport["counts"];
  readonly calmOperations: number;
  readonly handOvers: number;
  readonly longestWaitMs: { readonly calm: number; readonly all: number };
  readonly failures: readonly string[];
}

export function judge(run: Run): Outcome {
  const { history, nodes, seed, seconds, troubles } = run;
  const { operations, faults } = history;
  const errors = judgeErrors(history);
  const violations: Violation[] = [
    ...errors.wrong.map((wrong) => ({ ...wrong, register: undefined })),
    ...check(history),
  ];
  const times = new FaultTimes(faults);
  const wait = ({ start, end, session }: Operation) => (session === undefined ? end - start : session.opened - start);
  const longest = (list: readonly Operation[]) =>
    list.reduce((most, each) => Math.max(most, Math.round(wait(each))), 0);
  return {
    nodes,
    seed,
    seconds,
    operations: countBy(operations.map(({ kind }) => kind)),
    total: operations.length,
    faults: countBy(faults.map(({ kind }) => kind)),
    errors: errors.counts,
    calmOperations: errors.calmOperations,
    handOvers: countHandOvers(operations),
    longestWaitMs: { calm: longest(operations.filter((each) => times.calm(each))), all: longest(operations) },
    failures: [...troubles, ...violations.map((violation) => explain(violation, history))],
  };
}

/** How often the next change after one node's came from another. */
function countHandOvers(operations: readonly Operation[]): number {
  const changes = operations
    .filter(({ outcome, kind }) => outcome === "done" && kind !== "read" && kind !== "list")
    .toSorted((a, b) => a.end - b.end);
  return changes.filter(({ node }, at) => at > 0 && changes[at - 1]?.node !== node).length;
}

function countBy(words: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const word of words.toSorted()) counts[word] = (counts[word] ?? 0) + 1;
  return counts;
}

/** The operation, and what was done before and after it to the names or the file it is about. */
function explain({ what, operation, register }: Violation, { operations, faults }: History): string {
  const begin = operations.reduce((first, { start }) => Math.min(first, start), operation.start);
  const [version] = register?.split("#") ?? [];
  const about = (each: Operation) =>
    register !== undefined &&
    (each.effects.some((effect) => effect.register === register || ("moved" in effect && effect.moved === register)) ||
      each.session?.version === version ||
      each.seen.some((seen) => seen.register === register || (register.includes("#") && seen.value === version)) ||
      (each.synced !== undefined && register.startsWith(`${each.synced}/`)));
  const related = operations.filter(about).toSorted((a, b) => a.end - b.end);
  const at = related.findIndex(({ end }) => end >= operation.end);
  const shown = related.slice(Math.max(0, at - HISTORY_BEFORE), at + HISTORY_AFTER);
  const from = shown[0]?.start ?? operation.start - 1000;
  const faultsThen = faults.filter(({ start, end }) => start <= operation.end && end >= from);
  const lines = [
    ...shown.map((each) => ({ at: each.start, line: show(each, begin) })),
    ...faultsThen.map((each) => ({ at: each.start, line: showFault(each, begin) })),
  ].toSorted((a, b) => a.at - b.at);
  return [`${what}`, `  in ${show(operation, begin)}`, ...lines.map(({ line }) => `    ${line}`)].join("\n");
}

const seconds = (at: number, begin: number) => ((at - begin) / 1000).toFixed(3);

function show(operation: Operation, begin: number): string {
  const { client, node, kind, target, start, end, errno, step, seen, session, effects } = operation;
  const values = seen
    .filter(({ value }) => kind !== "list" || value === null)
    .map(({ register, value, blocks }) => {
      const content = blocks === undefined || new Set(blocks).size <= 1 ? "" : ` (${blocks.join(" ")})`;
      return `${register} = ${value ?? "nothing"}${content}`;
    });
  const made = effects.flatMap((effect) => ("value" in effect && effect.value !== null ? [`as ${effect.value}`] : []));
  const writes =
    session?.writes.map(({ block, id, errno: failed }) => `#${block} := ${id} ${failed ?? ""}`.trim()) ?? [];
  const result = errno === undefined ? "" : ` ${errno} (${step})`;
  const details = [...made, ...values, ...writes].join(", ");
  return `${seconds(start, begin)}-${seconds(end, begin)} ${node} ${client} ${kind} ${target}${result}${details && `: ${details}`}`;
}

function showFault({ node, kind, start, end }: Fault, begin: number): string {
  return `${seconds(start, begin)}-${seconds(end, begin)} ${node} -- ${kind} --`;
}

export function render(outcome: Outcome): string {
  const { nodes, seed, seconds: length, operations, total, faults, errors, failures, longestWaitMs } = outcome;
  const list = (counts: Readonly<Record<string, number>>) =>
    Object.entries(counts)
      .map(([word, count]) => `${count} ${word}`)
      .join(", ") || "none";
  const lines = [
    `${nodes} nodes, ${length} s, seed ${seed}`,
    `  operations    ${total}: ${list(operations)}`,
    `  faults        ${list(faults)}`,
    `  hand-overs    ${outcome.handOvers}`,
    `  longest wait  ${longestWaitMs.all} ms; while nobody was stopped (${outcome.calmOperations} operations) ${longestWaitMs.calm} ms`,
    `  errors        ${
      Object.entries(errors)
        .map(([errno, { calm, disturbed }]) => `${errno} ${calm + disturbed} (${calm} while nobody was stopped)`)
        .join(", ") || "none"
    }`,
    `  failures      ${failures.length}`,
    ...failures.slice(0, TOLD),
    ...(failures.length > TOLD ? [`... and ${failures.length - TOLD} more; --output json has all`] : []),
  ];
  return lines.join("\n");
}
