import { setTimeout as sleep } from "node:timers/promises";
import { hasCode, type Logger, messageOf } from "../../base/index.ts";
import { EVENT_REASONS, eventText } from "../event-reasons.ts";
import { EventThrottle } from "../event-throttle.ts";
import { type DriverEvent, type EventRecorder, logEvent, subjectOf } from "../events.ts";
import { KubernetesApi } from "./api.ts";
import { jitteredDelayMs } from "./back-off.ts";
import type { ClusterConnection } from "./connection.ts";
import { type ObjectReference, objectsOf } from "./event-objects.ts";
import { API_GROUP } from "./resources.ts";

export interface KubernetesEventsOptions {
  readonly connection: ClusterConnection;
  /** `controller` or `node`. */
  readonly component: string;
  /** Which one of them: the pod's or the node's name. */
  readonly instance: string;
  readonly logger: Logger;
  readonly throttle?: EventThrottle;
}

/** What waits for an API server that does not answer; beyond that the oldest are left to the log. */
const MOST_WAITING = 200;
/** A late event is still of use, for about as long as the cluster keeps one. */
const LATEST_MS = 30 * 60_000;
/** Events right before the end often say why it ends. */
const FLUSH_MS = 3_000;
/** Limits of the API, in bytes and characters. */
const LONGEST_NOTE = 1024;
const LONGEST_INSTANCE = 128;
const LONGEST_NAME = 253;

interface Waiting {
  readonly event: DriverEvent;
  /** Names it within this process, so that one that is sent twice is one event. */
  readonly serial: string;
  readonly at: Date;
  /** How often by now. */
  readonly count: number;
}

/**
 * Events of the cluster (events.k8s.io/v1), sent one after the other in the background. They wait while the API does
 * not answer; one that it refuses is in the log alone, where all of them are. A repeated one becomes a series: its
 * count is patched.
 */
export class KubernetesEvents implements EventRecorder, AsyncDisposable {
  readonly #options: KubernetesEventsOptions;
  readonly #api: KubernetesApi;
  readonly #throttle: EventThrottle;
  readonly #stop = new AbortController();
  /** Paths of the events that the cluster has, by reason and subject. */
  readonly #recorded = new Map<string, readonly string[]>();
  readonly #waiting: Waiting[] = [];
  #sending: Promise<void> | undefined;
  #serial = 0;

  constructor(options: KubernetesEventsOptions) {
    this.#options = options;
    this.#throttle = options.throttle ?? new EventThrottle();
    this.#api = new KubernetesApi(options.connection);
  }

  record(event: DriverEvent): void {
    const verdict = this.#throttle.admit(keyOf(event), eventText(event.reason, event.message));
    if (verdict.type === "first") logEvent(this.#options.logger, event);
    else if (verdict.type !== "again") return;
    if (this.#stop.signal.aborted) return;
    if (this.#waiting.length === MOST_WAITING) this.#waiting.shift();
    const at = new Date();
    const serial = `${at.getTime().toString(16)}${(this.#serial++).toString(16).padStart(4, "0")}`;
    this.#waiting.push({ event, serial, at, count: verdict.type === "again" ? verdict.count : 1 });
    this.#sending ??= this.#sendAll();
  }

  /** Waits a bounded time for what is on its way. */
  async [Symbol.asyncDispose](): Promise<void> {
    const late = setTimeout(() => this.#stop.abort(), FLUSH_MS);
    await this.#sending;
    clearTimeout(late);
    this.#stop.abort();
    this.#api[Symbol.dispose]();
  }

  async #sendAll(): Promise<void> {
    const { signal } = this.#stop;
    for (let next = this.#waiting[0]; next !== undefined && !signal.aborted; next = this.#waiting[0]) {
      await this.#sendPatiently(next);
      if (this.#waiting[0] === next) this.#waiting.shift();
    }
    this.#sending = undefined;
  }

  async #sendPatiently(waiting: Waiting): Promise<void> {
    const { signal } = this.#stop;
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        return await this.#send(waiting);
      } catch (error) {
        if (signal.aborted) return;
        if (isRefusal(error) || Date.now() - waiting.at.getTime() > LATEST_MS) return this.#giveUp(waiting, error);
        await sleep(jitteredDelayMs(failures), undefined, { signal }).catch(() => undefined);
      }
    }
  }

  async #send(waiting: Waiting): Promise<void> {
    const key = keyOf(waiting.event);
    const present = waiting.count > 1 ? this.#recorded.get(key) : undefined;
    if (present !== undefined && (await this.#count(present, waiting))) return;
    const objects = await objectsOf(waiting.event, this.#api, this.#stop.signal);
    const paths: string[] = [];
    for (const [index, regarding] of objects.entries()) {
      try {
        paths.push(await this.#create(waiting, regarding, index === 0 ? undefined : objects[0]));
      } catch (error) {
        // A namespace that is gone, say: the other objects still get it.
        if (!isRefusal(error)) throw error;
        this.#giveUp(waiting, error);
      }
    }
    this.#recorded.delete(key);
    this.#recorded.set(key, paths);
    const [oldest] = this.#recorded.keys();
    if (this.#recorded.size > MOST_WAITING && oldest !== undefined) this.#recorded.delete(oldest);
  }

  /** Answers where the event is. */
  async #create(
    { event, serial, at }: Waiting,
    regarding: ObjectReference,
    related: ObjectReference | undefined,
  ): Promise<string> {
    const { component, instance } = this.#options;
    // Events of what is in no namespace: the only one where the API allows them.
    const namespace = regarding.namespace ?? "default";
    const name = `${regarding.name.slice(0, LONGEST_NAME - serial.length - 1).replace(/[.-]+$/, "")}.${serial}`;
    const path = `/apis/events.k8s.io/v1/namespaces/${encodeURIComponent(namespace)}/events`;
    const body = {
      apiVersion: "events.k8s.io/v1",
      kind: "Event",
      metadata: { name, namespace },
      eventTime: microTime(at),
      type: EVENT_REASONS[event.reason].type,
      reason: event.reason,
      action: event.reason,
      note: shortened(eventText(event.reason, event.message)),
      regarding,
      ...(related === undefined ? {} : { related }),
      reportingController: `${API_GROUP}/${component}`,
      reportingInstance: instance.slice(0, LONGEST_INSTANCE),
    };
    try {
      await this.#api.request({ method: "POST", path, body, signal: this.#stop.signal });
    } catch (error) {
      // An earlier attempt had taken effect.
      if (!hasCode(error, "CONFLICT")) throw error;
    }
    return `${path}/${name}`;
  }

  #giveUp({ event }: Waiting, error: unknown): void {
    this.#options.logger.warn({ event: event.reason, reason: messageOf(error) }, "the cluster did not take an event");
  }

  /** False when the cluster has one of them no more: it forgets events after a time. */
  async #count(paths: readonly string[], { at, count }: Waiting): Promise<boolean> {
    const body = { series: { count, lastObservedTime: microTime(at) } };
    const contentType = "application/merge-patch+json";
    for (const path of paths) {
      const found = await this.#api.request({ method: "PATCH", path, body, contentType, signal: this.#stop.signal });
      if (found === undefined) return false;
    }
    return true;
  }
}

/** An answer that refuses will not be another one later; without an answer the API server is away. */
function isRefusal(error: unknown): boolean {
  return !hasCode(error, "STORE_UNAVAILABLE") || error.details?.["status"] !== undefined;
}

function keyOf(event: DriverEvent): string {
  return `${event.reason} ${subjectOf(event)}`;
}

function microTime(at: Date): string {
  return at.toISOString().replace("Z", "000Z");
}

/** The API refuses longer notes. */
function shortened(text: string): string {
  if (Buffer.byteLength(text) <= LONGEST_NOTE) return text;
  // Cutting bytes may cut a character in two, which decodes to U+FFFD.
  return `${Buffer.from(text)
    .subarray(0, LONGEST_NOTE - 3)
    .toString()
    .replace(/\uFFFD+$/, "")}…`;
}
