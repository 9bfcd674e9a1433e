/**
 * The mechanisms behind docs/guarantees.md, each with a change that disables it and the tests that must notice. A
 * change is one piece of text for another, and the piece must be in its file exactly once: whoever rewrites the
 * mechanism rewrites its row.
 */
export interface Mutation {
  /** What is disabled. */
  readonly name: string;
  /** The promise: its number in the first table of docs/guarantees.md, or the page's section. */
  readonly promise: string;
  readonly file: string;
  readonly search: string;
  readonly replace: string;
  readonly tests: readonly string[];
}

const WRITER = "src/media/log-writer.ts";
const READER = "src/media/log-reader.ts";
const LOG = "native/log.c";

export const MUTATIONS: readonly Mutation[] = [
  // ---- 1: what is in the log stays ----
  {
    name: "filler-run",
    promise: "1",
    file: WRITER,
    search: "if (!clean && this.freeSlots > 0) this.#writeRun();",
    replace: "",
    tests: ["src/media/log-writer.test.ts", "src/media/take-over.model.test.ts"],
  },
  {
    name: "look-past-counter",
    promise: "1",
    file: READER,
    search: "!this.#isInRun(published)) {",
    replace: "true) {",
    tests: ["src/media/log-reader.test.ts", "src/media/take-over.model.test.ts"],
  },
  {
    name: "retraction",
    promise: "1",
    file: READER,
    search: "const ghost = isDoubtful ? this.#replaced(this.#recent) : undefined;",
    replace: "const ghost: number | undefined = undefined;",
    tests: ["src/media/log-reader.test.ts", "src/media/take-over.model.test.ts"],
  },
  {
    name: "idle-look-past",
    promise: "1",
    file: READER,
    search: "if (counter === this.#seen && ++this.#idle < IDLE_POLLS) return NOTHING;",
    replace: "if (counter === this.#seen) return NOTHING;",
    tests: ["src/media/log-reader.test.ts"],
  },
  {
    name: "wait-for-arrivals",
    promise: "1",
    file: WRITER,
    search: "for (let waitMs = 1; bad !== undefined && waitMs < ARRIVAL_MS; waitMs *= 2) {",
    replace: "for (let waitMs = 1; waitMs < 0; waitMs *= 2) {",
    tests: ["src/media/log-writer.test.ts"],
  },
  {
    name: "first-entry-last",
    promise: "1",
    file: LOG,
    search: `  if (append->count > 1)
    store_durable(slot + ENTRY_SIZE, append->entries + ENTRY_SIZE, (append->count - 1) * ENTRY_SIZE);
  store_durable(slot, append->entries, ENTRY_SIZE);`,
    replace: "  store_durable(slot, append->entries, append->count * ENTRY_SIZE);",
    tests: ["native/log.test.ts", "src/media/crash.test.ts"],
  },
  // ---- 2: one owner ----
  {
    name: "append-checks-first",
    promise: "2",
    file: LOG,
    search: `  error = guard_check(guard);
  if (error == ESTALE) {`,
    replace: "  if (error == ESTALE) {",
    tests: ["native/log.test.ts", "src/media/log-writer.test.ts"],
  },
  {
    name: "append-checks-again",
    promise: "2",
    file: LOG,
    search: "if (error == 0 && (guarded_run(do_store_counters, &append) != 0 || guard_check(guard) != 0)) outcome",
    replace: "if (error == 0 && guarded_run(do_store_counters, &append) != 0) outcome",
    tests: ["native/log.test.ts", "src/media/log-writer.test.ts"],
  },
  {
    name: "data-write-guard",
    promise: "2",
    file: "native/fuse-worker.c",
    search: "int error = guard_check(guard);",
    replace: "int error = 0;",
    tests: ["src/fuse/mount.test.ts", "src/tree/volume-ports.test.ts"],
  },
  {
    name: "epoch-above-memory",
    promise: "2",
    file: "src/state/grants.ts",
    search: "const epoch = Math.max(record.epoch, highestInMemory) + 1;",
    replace: "const epoch = record.epoch + 1;",
    tests: ["src/state/grants.test.ts"],
  },
  {
    name: "look-again",
    promise: "2",
    file: "src/state/grants.ts",
    search: "if (holder !== undefined && holder !== nodeId) await liveness.lookAgain(holder, marginMs);",
    replace: "",
    tests: ["src/state/grants.test.ts"],
  },
  {
    name: "release-by-epoch",
    promise: "2",
    file: "src/state/grants.ts",
    search: "record.writer?.nodeId === nodeId && record.writer.epoch === epoch ?",
    replace: "record.writer?.nodeId === nodeId ?",
    tests: ["src/state/grants.test.ts"],
  },
  {
    name: "on-lapse",
    promise: "2",
    file: "src/state/heartbeat.ts",
    search: "await this.#onLapse();",
    replace: "",
    tests: ["src/state/heartbeat.test.ts"],
  },
  {
    name: "lapse-judged-late",
    promise: "2",
    file: "src/state/heartbeat.ts",
    search: "this.#goodUntil < this.#renewedAt) {",
    replace: "this.#goodUntil < started) {",
    tests: ["src/state/heartbeat.test.ts"],
  },
  {
    name: "stall",
    promise: "2",
    file: "src/node/writer-broker.ts",
    search: "for (const volumeId of this.#held.keys()) this.#pause(volumeId);",
    replace: "",
    tests: ["src/node/writer-broker.test.ts"],
  },
  {
    name: "stall-on-acquire",
    promise: "2",
    file: "src/node/writer-broker.ts",
    search: "if (this.#stalled) this.#pause(volumeId);",
    replace: "",
    tests: ["src/node/writer-broker.test.ts"],
  },
  {
    name: "former-request-ends",
    promise: "2",
    file: "src/node/writer-broker.ts",
    search: `former?.stop.abort(cancelled(volumeId, "its server asked anew"));`,
    replace: "",
    tests: ["src/node/writer-broker.test.ts"],
  },
  {
    name: "late-grant-given-back",
    promise: "2",
    file: "src/node/fuse-server/process.ts",
    search: "late: ({ epoch }) => void release(channel, { volumeId, epoch }, logger),",
    replace: "late: () => undefined,",
    tests: ["src/node/node-plugin.test.ts", "src/node/writer-broker.test.ts", "src/node/fuse-server/channel.test.ts"],
  },
  {
    name: "forced-detach-look",
    promise: "2",
    file: "src/node/forced-detach.ts",
    search:
      "await Promise.all(this.#options.records.all().map(({ volumeId }) => this.#untilDone(volumeId, { lapsed })));",
    replace: "",
    tests: ["test/behaviour/lost-nodes.test.ts", "src/node/node-volumes.test.ts"],
  },
  {
    name: "busy-keeps-grant",
    promise: "2",
    file: "src/tree/ownership.ts",
    search: "(forced || (this.#working === 0 && !this.#options.events.isBusy()))",
    replace: "(forced || this.#working === 0)",
    tests: ["src/tree/ownership.test.ts", "src/tree/ownership-phases.test.ts"],
  },
  {
    name: "operations-keep-grant",
    promise: "2",
    file: "src/tree/ownership.ts",
    search: "this.#working++;",
    replace: "",
    tests: ["src/tree/ownership-phases.test.ts"],
  },
  {
    name: "catch-up",
    promise: "2",
    file: "src/tree/ownership.ts",
    search: "await this.#options.events.catchUp();",
    replace: "",
    tests: ["src/tree/ownership.test.ts", "src/tree/ownership-phases.test.ts"],
  },
  {
    name: "verify-at-poll",
    promise: "2",
    file: "src/tree/volume-tree.ts",
    search: `const applied = this.#feed.poll();
    this.#ctx.ownership.verify();`,
    replace: "const applied = this.#feed.poll();",
    tests: ["src/tree/ownership.test.ts", "src/tree/sealing.test.ts"],
  },
  {
    name: "require-term",
    promise: "2",
    file: "src/tree/open-files.ts",
    search: "if (handle.term !== undefined && this.#lostTerms.has(handle.term)) throw stale();",
    replace: "",
    tests: ["src/tree/ownership.test.ts", "src/tree/ownership-phases.test.ts"],
  },
  {
    name: "lost-terms-stay-lost",
    promise: "2",
    file: "src/tree/open-files.ts",
    search: "if (handle.term === undefined || this.#lostTerms.has(handle.term)) continue;",
    replace: "if (handle.term === undefined) continue;",
    tests: ["src/tree/ownership.test.ts", "src/tree/ownership-phases.test.ts"],
  },
  {
    name: "waited-names-looked-up-anew",
    promise: "2",
    file: "src/tree/open-files.ts",
    search: "places.require(place, by);",
    replace: "",
    tests: ["src/tree/ownership.test.ts", "src/tree/interleaving.test.ts", "src/tree/places.test.ts"],
  },
  {
    name: "announce-changes",
    promise: "2",
    file: "src/tree/open-files.ts",
    search: "this.#ctx.ownership.yieldingWriter?.recordChanged(file.sealed.index, file.mtime);",
    replace: "",
    tests: ["src/tree/cpu-caches.test.ts", "src/tree/ownership.test.ts", "src/tree/change-feed.test.ts"],
  },
  {
    name: "settle",
    promise: "what one node can still do wrong to another",
    file: "src/node/node-volumes.ts",
    search: "const SETTLE_MS = 150;",
    replace: "const SETTLE_MS = 0;",
    tests: ["src/node/node-volumes.test.ts", "src/node/node-plugin.test.ts"],
  },
  // ---- 4: sealed sizes ----
  // ---- 5: no bytes of others ----
  {
    name: "zero-on-reserve",
    promise: "5",
    file: "src/tree/growth.ts",
    search: "await this.zero(content, extents);",
    replace: "",
    tests: ["src/tree/file-size.test.ts"],
  },
  {
    name: "foreign-reservations",
    promise: "5",
    file: "src/tree/space.ts",
    search: "for (const extent of foreign) free.take(extent.offset, extent.length);",
    replace: "",
    tests: ["src/tree/ownership.test.ts", "src/tree/sealing.test.ts", "src/tree/limits.test.ts"],
  },
  {
    name: "removed-space-waits",
    promise: "5",
    file: "src/tree/space.ts",
    search: "if ((this.#removed.length === 0 && !this.#withForeign) || !this.#options.exclusive()) return;",
    replace: "if (this.#removed.length === 0 && !this.#withForeign) return;",
    tests: ["src/tree/limits.test.ts", "src/tree/ownership.test.ts"],
  },
  {
    name: "erase-waits-for-staged",
    promise: "5",
    file: "src/controller/quarantine.ts",
    search: ".filter(([nodeId, { bootId }]) => nodes.some((node) => node.nodeId === nodeId && node.bootId === bootId))",
    replace: ".filter(() => false)",
    tests: ["src/controller/quarantine.test.ts"],
  },
  // ---- 7: memory errors ----
  {
    name: "sigbus-is-eio",
    promise: "7",
    file: "native/guard.c",
    search: "if (guard_target != NULL && info->si_code != BUS_MCEERR_AO) siglongjmp(*guard_target, 1);",
    replace: "",
    tests: ["native/memory.test.ts"],
  },
  // ---- 8: RPCs ----
  {
    name: "one-call-per-volume",
    promise: "8",
    file: "src/base/try-lock.ts",
    search: "if (this.#held.has(key)) return undefined;",
    replace: "",
    tests: ["src/node/node-volumes.test.ts", "src/controller/create-volume.test.ts"],
  },
  // ---- hosts whose caches do not agree ----
  {
    name: "flush-guard",
    promise: "hosts whose caches do not agree",
    file: LOG,
    search: "if (guard->invalidate) cache_invalidate(comparison->memory, guard->length);",
    replace: "",
    tests: ["native/log.test.ts", "src/media/incoherent.test.ts"],
  },
  {
    name: "flush-log-counter",
    promise: "hosts whose caches do not agree",
    file: READER,
    search: "if (!coherent) window.invalidate(logOffset + LOG_NEXT_INDEX_OFFSET, 8);",
    replace: "",
    tests: ["src/media/incoherent.test.ts", "src/media/log-reader.test.ts"],
  },
];
