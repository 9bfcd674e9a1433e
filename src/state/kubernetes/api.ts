import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { Agent, request } from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { FamfsError, hasCode, messageOf } from "../../base/index.ts";
import { jitteredDelayMs } from "./back-off.ts";
import type { ClusterConnection } from "./connection.ts";

export interface ApiRequest {
  readonly method: "GET" | "POST" | "PATCH" | "PUT" | "DELETE";
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  readonly contentType?: string;
  readonly signal?: AbortSignal;
  /** Of one attempt (default 10 s). */
  readonly attemptMs?: number;
}

export interface WatchEvent {
  readonly type: string;
  readonly object: unknown;
}

/** One attempt: a small request is answered in milliseconds. */
const ATTEMPT_MS = 10_000;
/** All attempts of one request: an API server that restarts is back within it, or the caller is told. */
const PATIENCE_MS = 15_000;
/** A watch that is silent for longer is dead: the server sends bookmarks about once a minute. */
const SILENCE_MS = 90_000;
/** The connection below a watch is probed this often, so that a vanished server is noticed within some 15 s. */
const KEEP_ALIVE_MS = 5_000;
const BUSY = new Set([429, 500, 502, 503, 504]);

/**
 * Requests to the Kubernetes API over connections that are kept. A request that failed for want of an answer is sent
 * again, also a write: each write here is either a creation or names the resourceVersion it replaces, so it takes
 * effect at most once, and a repeated one that had taken effect comes back as CONFLICT, after which callers read again.
 */
export class KubernetesApi implements Disposable {
  readonly #connection: ClusterConnection;
  readonly #agent: Agent;
  readonly #closed = new AbortController();

  constructor(connection: ClusterConnection) {
    this.#connection = connection;
    this.#agent = new Agent({ ...connection.tls, keepAlive: true });
  }

  [Symbol.dispose](): void {
    this.#closed.abort(new FamfsError("STORE_UNAVAILABLE", "the store is closed"));
    this.#agent.destroy();
  }

  /**
   * The answer's JSON; undefined when there is no such object. Errors: CONFLICT (409), INTERNAL (the server finds the
   * request wrong), STORE_UNAVAILABLE (anything else, after some time of trying), the signal's reason.
   */
  async request(wanted: ApiRequest): Promise<unknown> {
    const deadline = performance.now() + PATIENCE_MS;
    for (let attempt = 0; ; attempt++) {
      const failure = await this.#attempt(wanted);
      if ("answer" in failure) return failure.answer;
      const delayMs = failure.retryAfterMs ?? jitteredDelayMs(attempt);
      if (!failure.mayRetry || performance.now() + delayMs > deadline) throw failure.error;
      await sleep(delayMs, undefined, { signal: this.#bounded(wanted.signal, PATIENCE_MS) }).catch(() => {});
      this.#assertWanted(wanted);
    }
  }

  /** Lines of a watch until the server or `signal` ends it. GONE and other refusals are thrown. */
  async *watch(path: string, query: Readonly<Record<string, string>>, signal: AbortSignal): AsyncGenerator<WatchEvent> {
    const silence = new AbortController();
    const timer = setTimeout(() => silence.abort(), SILENCE_MS);
    timer.unref();
    try {
      const either = AbortSignal.any([signal, silence.signal, this.#closed.signal]);
      const response = await this.#send({ method: "GET", path, query: { ...query, watch: "true" }, signal: either });
      response.socket.setKeepAlive(true, KEEP_ALIVE_MS);
      if (response.statusCode !== 200) throw refusal(path, response.statusCode ?? 0, await readAll(response));
      response.setEncoding("utf8");
      let rest = "";
      for await (const chunk of response as AsyncIterable<string>) {
        timer.refresh();
        const lines = (rest + chunk).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) {
          const event = asEvent(path, line);
          if (event.type === "ERROR") throw refusal(path, 0, JSON.stringify(event.object));
          yield event;
        }
      }
    } catch (error) {
      if (!silence.signal.aborted) throw error;
      const details = { silent: true };
      throw new FamfsError("STORE_UNAVAILABLE", `${path}: nothing came for ${SILENCE_MS / 1000} s`, { details });
    } finally {
      clearTimeout(timer);
    }
  }

  async #attempt(wanted: ApiRequest): Promise<Outcome> {
    const signal = this.#bounded(wanted.signal, wanted.attemptMs ?? ATTEMPT_MS);
    const what = `${wanted.method} ${wanted.path}`;
    let status: number;
    let text: string;
    let retryAfter: string | undefined;
    try {
      const response = await this.#send({ ...wanted, signal });
      status = response.statusCode ?? 0;
      retryAfter = response.headers["retry-after"];
      text = await readAll(response);
    } catch (error) {
      this.#assertWanted(wanted);
      const reason = `${what}: the Kubernetes API does not answer: ${messageOf(error)}`;
      return { mayRetry: true, error: new FamfsError("STORE_UNAVAILABLE", reason, { cause: error }) };
    }
    if (status >= 200 && status < 300) return { answer: parseJson(what, text) };
    const error = refusal(what, status, text);
    if (isMissingObject(status, text)) return { answer: undefined };
    const seconds = Number(retryAfter);
    return { mayRetry: BUSY.has(status), error, ...(seconds > 0 ? { retryAfterMs: seconds * 1000 } : {}) };
  }

  async #send({ method, path, query = {}, body, contentType, signal }: ApiRequest): Promise<IncomingMessage> {
    const url = new URL(path, this.#connection.server);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    const payload = body === undefined ? undefined : JSON.stringify(body);
    const sent = request(url, {
      method,
      agent: this.#agent,
      headers: {
        accept: "application/json",
        "user-agent": "famfs-csi",
        ...(payload === undefined
          ? {}
          : { "content-type": contentType ?? "application/json", "content-length": Buffer.byteLength(payload) }),
        ...(await this.#connection.headers()),
      },
      ...(signal === undefined ? {} : { signal }),
    });
    sent.end(payload);
    const answered = (code: string) => this.#connection.onAnswer?.({ method, code });
    try {
      const [response] = (await once(sent, "response")) as [IncomingMessage];
      answered(String(response.statusCode));
      return response;
    } catch (error) {
      if (signal?.aborted !== true || isTimeout(signal.reason)) answered("none");
      throw error;
    }
  }

  #assertWanted({ signal }: ApiRequest): void {
    this.#closed.signal.throwIfAborted();
    signal?.throwIfAborted();
  }

  #bounded(signal: AbortSignal | undefined, milliseconds: number): AbortSignal {
    const both = [this.#closed.signal, AbortSignal.timeout(milliseconds)];
    return AbortSignal.any(signal === undefined ? both : [signal, ...both]);
  }
}

type Outcome =
  | { readonly answer: unknown }
  | { readonly mayRetry: boolean; readonly retryAfterMs?: number; readonly error: FamfsError };

/** True when a watch or a page of a list starts from a version that the server has forgotten: list anew. */
export function isGone(error: unknown): boolean {
  return hasCode(error, "STORE_UNAVAILABLE") && error.details?.["status"] === 410;
}

/**
 * True when a watch was silent for longer than the server is. A server accepts a watch from a version that is not there
 * yet, and says nothing before it is: after etcd was restored, say. So it must not be asked for again.
 */
export function isSilent(error: unknown): boolean {
  return hasCode(error, "STORE_UNAVAILABLE") && error.details?.["silent"] === true;
}

/**
 * Nobody serves objects of that kind: its custom resource definition is not there. (Of a missing object: undefined.)
 */
export function isUnknownResource(error: unknown): boolean {
  return hasCode(error, "STORE_UNAVAILABLE") && error.details?.["status"] === 404;
}

/** As opposed to a caller that lost interest. */
function isTimeout(reason: unknown): boolean {
  return reason instanceof DOMException && reason.name === "TimeoutError";
}

async function readAll(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}

function parseJson(what: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new FamfsError("STORE_UNAVAILABLE", `${what}: the answer is not JSON: ${text.slice(0, 80)}`, {
      cause: error,
    });
  }
}

function asEvent(path: string, line: string): WatchEvent {
  const event = parseJson(path, line);
  if (typeof event === "object" && event !== null && "type" in event && "object" in event) {
    return { type: String(event.type), object: event.object };
  }
  throw new FamfsError("STORE_UNAVAILABLE", `${path}: not an event of a watch: ${line.slice(0, 80)}`);
}

interface Status {
  readonly code?: number;
  readonly message?: string;
  readonly details?: { readonly name?: string; readonly kind?: string };
}

/** The API's own account of an error (a v1 Status), where it gives one. */
function statusOf(text: string): Status | undefined {
  try {
    const status: unknown = JSON.parse(text);
    return typeof status === "object" && status !== null ? (status as Status) : undefined;
  } catch {
    return undefined; // a proxy, or a path that nobody serves
  }
}

/** A missing object is named; a missing resource type (no such custom resource definition) or namespace is an error. */
function isMissingObject(status: number, text: string): boolean {
  const details = status === 404 ? statusOf(text)?.details : undefined;
  return details?.name !== undefined && details.kind !== "namespaces";
}

function refusal(what: string, httpStatus: number, text: string): FamfsError {
  const account = statusOf(text);
  const status = account?.code ?? httpStatus;
  const message = `${what}: ${status} ${account?.message ?? text.slice(0, 200).trim()}`;
  if (status === 409) return new FamfsError("CONFLICT", message);
  if (status === 400 || status === 422) return new FamfsError("INTERNAL", message);
  const hint = status === 404 ? " (are the custom resource definitions and the node namespace installed?)" : "";
  return new FamfsError("STORE_UNAVAILABLE", `${message}${hint}`, { details: { status } });
}
