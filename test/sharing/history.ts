/**
 * What clients did and saw, in words that a checker can judge. Everything that is written bears a name of its own, so
 * each thing that is seen says which operation it came from.
 *
 * A *register* is a thing with one value at a time: a name in the volume ("d0/r1"), whose value is the version of
 * the file there, or one block of one version ("c2.17#3"), whose value is the write that filled it.
 */

/** Of a register without anything: no such name. */
export const ABSENT = null;
/** Something is there, and it was not looked at what. */
export const PRESENT = "?";

export type Kind =
  | "create"
  | "overwrite"
  | "update"
  | "rename"
  | "remove"
  | "mkdir"
  | "rmdir"
  | "read"
  | "list"
  | "fsync directory";

/** The register has `value` afterwards; `moved`: what the register of that name had. */
export type Effect = { readonly register: string } & (
  | { readonly value: string | typeof ABSENT }
  | { readonly moved: string }
);

export interface Seen {
  readonly register: string;
  readonly value: string | typeof ABSENT;
  /**
   * Seen with the right to write: nothing acknowledged before may be missing. Otherwise another node's may come late.
   */
  readonly current: boolean;
  /** Of a file: what filled each of its blocks, or how it is damaged. */
  readonly blocks?: readonly string[];
  /** Of a file with bytes of several versions: all of them. */
  readonly mixed?: readonly string[];
}

/** Of one block: nothing was written there, or it is not one write's bytes. */
export const ZERO = "zero";
export const TORN = "torn";

export interface WriteAttempt {
  readonly block: number;
  readonly id: string;
  readonly start: number;
  readonly end: number;
  readonly errno?: string;
}

/** A file that was open for write: from when the open was answered to the close. */
export interface Session {
  readonly version: string;
  readonly opened: number;
  readonly writes: readonly WriteAttempt[];
}

export interface Operation {
  readonly client: string;
  readonly node: string;
  readonly kind: Kind;
  /** For people: which name or names. */
  readonly target: string;
  /** Milliseconds of the machine's monotonic clock. */
  readonly start: number;
  readonly end: number;
  /** When the step that failed began; otherwise as `start`. */
  readonly stepStart: number;
  readonly errno?: string;
  /** Which system call failed. */
  readonly step?: string;
  /** refused: nothing of it may ever be seen; unknown: the answer was lost, or came in the middle. */
  readonly outcome: "done" | "refused" | "unknown";
  readonly effects: readonly Effect[];
  readonly seen: readonly Seen[];
  readonly session?: Session;
  /** An `fsync directory` makes what came before it in that directory durable: its name. */
  readonly synced?: string;
  /** An update or overwrite whose bytes were fsynced before the close. */
  readonly fsynced?: boolean;
  /** A client's own judgement: no checker is needed to see that it is wrong. */
  readonly damage?: string;
}

/** What the tester does to a node. */
export interface Fault {
  readonly node: string;
  readonly kind: FaultKind;
  readonly start: number;
  /** When the node works again: woken, or started and mounted. */
  end: number;
}

export const FAULT_KINDS = [
  "stop server",
  "stop plugin",
  "stop node",
  "stop server long",
  "stop plugin long",
  "stop node long",
  "kill server",
  "kill plugin",
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

export interface History {
  readonly operations: readonly Operation[];
  readonly faults: readonly Fault[];
}

/** The monotonic clock that all processes of a machine share. */
export function now(): number {
  return Number(process.hrtime.bigint() / 1000n) / 1000;
}

/** Files that were written but not sealed, and the right to write, may be lost by it. */
export function losesTerm({ kind }: Fault): boolean {
  return kind.startsWith("kill") || kind.endsWith("long");
}
