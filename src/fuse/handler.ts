import type { RequestContext } from "../base/index.ts";
import type { ReplyWriter } from "./reply.ts";
import type { Request } from "./request.ts";
import type { ServedConnection } from "./served-connection.ts";

/**
 * How the main thread answers an opcode: what it asks of the file system, and how the answer is written. `run` may
 * answer at once or with a promise; `write` runs right before the reply is sent, so nothing it writes is overtaken.
 */
export interface Handler<T = unknown> {
  run(on: ServedConnection, request: Request, by: RequestContext): T | Promise<T>;
  write?(reply: ReplyWriter, answer: T, request: Request, on: ServedConnection): void;
  /** What to undo when nobody got the answer: the connection has ended. */
  discard?(on: ServedConnection, answer: T, request: Request): void;
}

/** Answers the errno without asking anybody. */
export interface Refusal {
  readonly errno: "ENOSYS" | "ENOTTY" | "EOPNOTSUPP";
}

/** Nothing to do and nobody to answer. */
export interface Ignored {
  readonly ignored: true;
}

export type Row = Handler | Refusal | Ignored;
