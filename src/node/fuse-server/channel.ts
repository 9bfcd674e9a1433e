import { ERROR_CODES, type ErrorCode, FamfsError, isFamfsError, messageOf } from "../../base/index.ts";
import { bounded } from "../bounded.ts";

/** What may be asked in one direction, as functions of one argument. Arguments and answers are structured clones. */
export type Calls = Record<string, (request: never) => unknown>;
export type RequestOf<C extends Calls, Name extends keyof C> = Parameters<C[Name]>[0];
export type AnswerOf<C extends Calls, Name extends keyof C> = ReturnType<C[Name]>;

export type Handlers<C extends Calls> = {
  readonly [Name in keyof C]: (request: RequestOf<C, Name>) => AnswerOf<C, Name> | Promise<AnswerOf<C, Name>>;
};

type Message =
  | { readonly type: "call"; readonly id: number; readonly name: string; readonly request: unknown }
  | { readonly type: "answer"; readonly id: number; readonly answer: unknown }
  | { readonly type: "failure"; readonly id: number; readonly error: WireError };

interface WireError {
  readonly code: string;
  readonly message: string;
  readonly details: unknown;
}

/** The side of a child_process channel that both `process` and `ChildProcess` have. */
export interface Port {
  send?(message: object, callback: (error: Error | null) => void): boolean;
  on(event: "message", listener: (message: unknown) => void): unknown;
  on(event: "disconnect", listener: () => void): unknown;
}

/**
 * Questions and answers between the node plugin and its FUSE server process: `Out` is what this side asks, `In` what
 * it is asked. Failures keep their code. When the other side goes away every open question fails with
 * NODE_UNAVAILABLE.
 */
export class Channel<Out extends Calls, In extends Calls> {
  readonly #port: Port;
  readonly #handlers: Handlers<In>;
  readonly #open = new Map<number, PromiseWithResolvers<unknown>>();
  #lastId = 0;
  #closed = false;

  constructor(port: Port, handlers: Handlers<In>) {
    this.#port = port;
    this.#handlers = handlers;
    port.on("message", (message) => this.#receive(message as Message));
    port.on("disconnect", () => this.close());
  }

  /** Asks the other side; waits at most `timeoutMs`. `late` takes back an answer that comes after that. */
  async call<Name extends keyof Out & string>(
    name: Name,
    request: RequestOf<Out, Name>,
    options: { timeoutMs: number; signal?: AbortSignal; late?: (answer: AnswerOf<Out, Name>) => void },
  ): Promise<AnswerOf<Out, Name>> {
    const id = ++this.#lastId;
    const reply = Promise.withResolvers<unknown>();
    this.#open.set(id, reply);
    this.#send({ type: "call", id, name, request });
    return await bounded(reply.promise as Promise<AnswerOf<Out, Name>>, {
      what: `FUSE server: ${name}`,
      ...options,
    });
  }

  close(): void {
    this.#closed = true;
    for (const id of [...this.#open.keys()]) this.#fail(id, gone());
  }

  #send(message: Message): void {
    const failed = (error: unknown) => {
      if (message.type === "call") this.#fail(message.id, gone(error));
    };
    try {
      if (this.#closed || this.#port.send === undefined) throw gone();
      this.#port.send(message, (error) => {
        if (error !== null) failed(error);
      });
    } catch (error) {
      failed(error);
    }
  }

  #receive(message: Message): void {
    switch (message.type) {
      case "call":
        void this.#answer(message.id, message.name, message.request);
        return;
      case "answer":
        this.#open.get(message.id)?.resolve(message.answer);
        this.#open.delete(message.id);
        return;
      case "failure":
        this.#fail(message.id, errorFromWire(message.error));
        return;
      default:
        message satisfies never;
    }
  }

  async #answer(id: number, name: string, request: unknown): Promise<void> {
    try {
      const handler = Object.hasOwn(this.#handlers, name) ? this.#handlers[name] : undefined;
      if (handler === undefined) throw new FamfsError("INTERNAL", `nobody answers ${name}`);
      this.#send({ type: "answer", id, answer: await handler(request as never) });
    } catch (error) {
      this.#send({ type: "failure", id, error: errorToWire(error) });
    }
  }

  #fail(id: number, error: Error): void {
    this.#open.get(id)?.reject(error);
    this.#open.delete(id);
  }
}

function gone(cause?: unknown): FamfsError {
  return new FamfsError("NODE_UNAVAILABLE", "the FUSE server process is gone", { cause });
}

function errorToWire(error: unknown): WireError {
  if (isFamfsError(error)) return { code: error.code, message: error.message, details: error.details };
  return { code: "INTERNAL", message: messageOf(error), details: undefined };
}

function errorFromWire({ code, message, details }: WireError): FamfsError {
  const known: ErrorCode = ERROR_CODES.find((one) => one === code) ?? "INTERNAL";
  return new FamfsError(known, message, { details: details as FamfsError["details"] } as never);
}
