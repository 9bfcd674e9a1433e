/**
 * What the ownership protocol is made of: single loads and stores. `protocol.ts` says which, in what order; production
 * carries them out to the end, and the model stops between any two of them and lets others run.
 */

/** Where a log ends, and the first entry below that which is not valid, if there is one. */
export interface FoundEnd {
  readonly end: number;
  readonly bad?: { readonly index?: number; readonly message: string } | undefined;
}

export type StoreStep =
  /** Bytes into this host's caches: they reach the memory at any time, in any order of lines, or with the fence. */
  | { readonly type: "store"; readonly at: number; readonly bytes: Uint8Array }
  /** Eight aligned bytes at once. */
  | { readonly type: "store64"; readonly at: number; readonly value: bigint }
  /** The same eight bytes twice, sixteen aligned bytes at once. */
  | { readonly type: "storePair"; readonly at: number; readonly value: bigint }
  /** Begins to write lines back. */
  | { readonly type: "flush"; readonly at: number; readonly length: number }
  /** Every line that was flushed is in the memory; no later load passes this. */
  | { readonly type: "fence" };

export type Step =
  | StoreStep
  /** Bytes as they are in the memory now, not in the caches of this host. */
  | { readonly type: "load"; readonly at: number; readonly length: number }
  /** Reads the log to its end. Entries below the end that have not arrived are waited for. */
  | { readonly type: "findEnd" };

/** A piece of the protocol: yields single steps, is sent what they found, and returns what came of it. */
export type Steps<T> = Generator<Step, T, unknown>;

/** One operation of a plan. A `look` asks whether the log is still this node's; where it is not, the plan ends. */
export type PlanStep = StoreStep | { readonly type: "look" };

/** Steps without a decision but "go on or end": what runs for each append, and so as one call of the addon. */
export type Plan = readonly PlanStep[];

export function* load(at: number, length: number): Steps<Uint8Array> {
  return (yield { type: "load", at, length }) as Uint8Array;
}

export function* findEnd(): Steps<FoundEnd> {
  return (yield { type: "findEnd" }) as FoundEnd;
}

/** `bytes` are in the memory when it is done. */
export function durable(at: number, bytes: Uint8Array): StoreStep[] {
  return [{ type: "store", at, bytes }, { type: "flush", at, length: bytes.byteLength }, { type: "fence" }];
}
