import { chmodSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { FamfsError, fromSystemError, isFamfsError, messageOf } from "../base/index.ts";
import { Informer, type InformerSink, type InformerSource } from "./informer.ts";
import { type Kind, RECORD_SCHEMAS, type Records } from "./records.ts";
import { parseRecord } from "./schema.ts";
import { devicesIn, type Listed, type Shown, type Store, type StoredRecord, type Unreadable } from "./store.ts";

export interface EmbeddedStoreOptions {
  /** The directory that holds the one database file (and SQLite's log beside it). Made with mode 0700. */
  readonly stateDir: string;
  /** How often changes made by other processes are looked for (default 25 ms). Those of this one are seen at once. */
  readonly pollMs?: number;
}

const FILE = "state.sqlite";
/** Counts incompatible changes of the tables. */
const LAYOUT = 1;
/** How long a locked database is waited for before STORE_UNAVAILABLE. Locks are held for the time of one write. */
const BUSY_MS = 5_000;
const SQLITE_BUSY = 5;
/** Until an informer that could not read tries again. */
const RETRY_MS = 200;

interface Row {
  name: string;
  version: number;
  created: string;
  body: string;
}

/**
 * The store when there is no cluster: one SQLite file, shared by any number of processes. `version` grows over all
 * records, so it orders changes as well as naming them. Commits reach the disk before they are acknowledged.
 */
export class EmbeddedStore implements Store {
  readonly #database: DatabaseSync;
  readonly #pollMs: number;
  readonly #statements;
  readonly #watchers = new Set<() => void>();
  readonly #informers: { [K in Kind]?: Informer<K> } = {};
  #poll: NodeJS.Timeout | undefined;
  #dataVersion = 0;
  #closed = false;

  private constructor(database: DatabaseSync, pollMs: number) {
    this.#database = database;
    this.#pollMs = pollMs;
    const prepare = (sql: string): StatementSync => database.prepare(sql);
    this.#statements = {
      get: prepare("SELECT name, version, created, body FROM records WHERE kind = ? AND name = ?"),
      list: prepare("SELECT name, version, created, body FROM records WHERE kind = ? ORDER BY name"),
      versions: prepare("SELECT name, version FROM records WHERE kind = ? ORDER BY version"),
      put: prepare("INSERT OR REPLACE INTO records (kind, name, version, created, body) VALUES (?, ?, ?, ?, ?)"),
      remove: prepare("DELETE FROM records WHERE kind = ? AND name = ?"),
      next: prepare("UPDATE sequence SET value = value + 1 RETURNING value"),
      dataVersion: prepare("PRAGMA data_version"),
    };
  }

  static async open({ stateDir, pollMs = 25 }: EmbeddedStoreOptions): Promise<EmbeddedStore> {
    const path = join(stateDir, FILE);
    let database: DatabaseSync | undefined;
    try {
      mkdirSync(stateDir, { recursive: true, mode: 0o700 });
      database = new DatabaseSync(path, { timeout: 0 });
      const opened = database;
      // Two processes may open a new store at once.
      await patiently(() => {
        opened.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
        opened.exec(`BEGIN IMMEDIATE;
          CREATE TABLE IF NOT EXISTS records (
            kind TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, created TEXT NOT NULL, body TEXT NOT NULL,
            PRIMARY KEY (kind, name)
          ) STRICT, WITHOUT ROWID;
          CREATE TABLE IF NOT EXISTS sequence (layout INTEGER PRIMARY KEY, value INTEGER NOT NULL) STRICT;
          INSERT OR IGNORE INTO sequence (layout, value) SELECT ${LAYOUT}, 0 WHERE NOT EXISTS (SELECT 1 FROM sequence);
          COMMIT`);
      }, opened);
      chmodSync(path, 0o600);
      const layout = opened.prepare("SELECT layout FROM sequence").get()?.["layout"];
      if (layout !== LAYOUT) {
        throw new FamfsError("STORE_UNAVAILABLE", `${path} has layout ${String(layout)}, this program reads ${LAYOUT}`);
      }
      return new EmbeddedStore(opened, pollMs);
    } catch (error) {
      database?.close();
      if (isFamfsError(error)) throw error;
      const system = fromSystemError(error, "open", path);
      if (system.code === "SYSTEM") throw system;
      throw new FamfsError("STORE_UNAVAILABLE", `${path}: ${messageOf(error)}`, { cause: error });
    }
  }

  async get<K extends Kind>(kind: K, name: string): Promise<StoredRecord<K> | undefined> {
    const row = await this.#run(() => this.#statements.get.get(kind, name) as Row | undefined);
    return row === undefined ? undefined : fromRow(kind, row);
  }

  async list<K extends Kind>(kind: K): Promise<StoredRecord<K>[]> {
    return (await this.listAll(kind)).records;
  }

  async listAll<K extends Kind>(kind: K): Promise<Listed<K>> {
    const rows = await this.#run(() => this.#statements.list.all(kind) as unknown as Row[]);
    const records: StoredRecord<K>[] = [];
    const unreadable: Unreadable[] = [];
    for (const row of rows) {
      const record = readRow(kind, row);
      if ("resourceVersion" in record) records.push(record);
      else unreadable.push(record);
    }
    return { records, unreadable };
  }

  async create<K extends Kind>(kind: K, name: string, record: Records[K]): Promise<StoredRecord<K>> {
    return this.#write((next) => {
      if (this.#statements.get.get(kind, name) !== undefined) throw conflict(kind, name, "exists already");
      const row = { name, version: next(), created: new Date().toISOString(), body: toBody(record) };
      this.#put(kind, row);
      return fromRow(kind, row);
    });
  }

  async replace<K extends Kind>(kind: K, record: StoredRecord<K>): Promise<StoredRecord<K>> {
    return this.#write((next) => {
      const found = this.#statements.get.get(kind, record.name) as Row | undefined;
      if (found === undefined) throw conflict(kind, record.name, "is gone");
      if (String(found.version) !== record.resourceVersion) {
        throw conflict(kind, record.name, `is at version ${found.version}, not ${record.resourceVersion}`);
      }
      const row = { name: record.name, version: next(), created: found.created, body: toBody(record) };
      this.#put(kind, row);
      return fromRow(kind, row);
    });
  }

  async delete(kind: Kind, name: string, resourceVersion: string): Promise<void> {
    await this.#write((next) => {
      const found = this.#statements.get.get(kind, name) as Row | undefined;
      if (found === undefined) return;
      if (String(found.version) !== resourceVersion) {
        throw conflict(kind, name, `is at version ${found.version}, not ${resourceVersion}`);
      }
      next();
      this.#statements.remove.run(kind, name);
    });
  }

  informer<K extends Kind>(kind: K): Informer<K> {
    if (this.#closed) throw new FamfsError("STORE_UNAVAILABLE", "the store is closed");
    const informers: { [Key in K]?: Informer<K> } = this.#informers as { [Key in K]?: Informer<K> };
    const informer = informers[kind] ?? new Informer<K>(kind, (sink) => this.#source(kind, sink));
    informers[kind] = informer;
    return informer;
  }

  /** Reads what differs after each change, of this process or of another. */
  #source<K extends Kind>(kind: K, sink: InformerSink<K>): InformerSource {
    const known = new Map<string, number>();
    let last: Promise<void> = Promise.resolve();
    // One after the other, because each waits for the database and then shows.
    const step = () => {
      const next = last.then(async () => sink.show(await this.#changesSince(kind, known)));
      last = next.catch(() => {});
      return next;
    };
    let again: NodeJS.Timeout | undefined;
    const wake = () => {
      step().catch(() => {
        // The database did not answer in time. An informer outlives that.
        if (!this.#closed) again = setTimeout(wake, RETRY_MS).unref();
      });
    };
    this.#addWatcher(wake);
    wake();
    return {
      resync: step,
      [Symbol.asyncDispose]: async () => {
        clearTimeout(again);
        this.#removeWatcher(wake);
        await last;
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#poll);
    for (const informer of Object.values(this.#informers)) await informer[Symbol.asyncDispose]();
    this.#database.close();
  }

  /**
   * What differs from `known`, which is brought up to date: first what is gone, then what is new, oldest first. All of
   * it as of one moment.
   */
  async #changesSince<K extends Kind>(kind: K, known: Map<string, number>): Promise<Shown<K>[]> {
    const { versions, get } = this.#statements;
    const rows = await this.#run(() => {
      this.#database.exec("BEGIN");
      const present = versions.all(kind) as unknown as Pick<Row, "name" | "version">[];
      const stale = present.filter(({ name, version }) => known.get(name) !== version);
      const changed = stale.flatMap(({ name }) => (get.get(kind, name) as Row | undefined) ?? []);
      this.#database.exec("COMMIT");
      return { present: new Set(present.map(({ name }) => name)), changed };
    });
    const changes: Shown<K>[] = [];
    for (const name of known.keys()) {
      if (rows.present.has(name)) continue;
      known.delete(name);
      changes.push({ type: "deleted", name });
    }
    for (const row of rows.changed) {
      known.set(row.name, row.version);
      const record = readRow(kind, row);
      changes.push("resourceVersion" in record ? { type: "put", record } : { type: "unreadable", ...record });
    }
    return changes;
  }

  #put(kind: Kind, row: Row): void {
    this.#statements.put.run(kind, row.name, row.version, row.created, row.body);
  }

  /** One transaction; `next` gives the version for what it writes. Watchers of this process are told at once. */
  async #write<T>(work: (next: () => number) => T): Promise<T> {
    const next = () => Number(this.#statements.next.get()?.["value"]);
    const result = await this.#run(() => {
      this.#database.exec("BEGIN IMMEDIATE");
      try {
        const value = work(next);
        this.#database.exec("COMMIT");
        return value;
      } catch (error) {
        if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
        throw error;
      }
    });
    for (const wake of this.#watchers) wake();
    return result;
  }

  async #run<T>(work: () => T): Promise<T> {
    try {
      return await patiently(() => {
        if (this.#closed) throw new FamfsError("STORE_UNAVAILABLE", "the store is closed");
        return work();
      }, this.#database);
    } catch (error) {
      if (isFamfsError(error)) throw error;
      throw new FamfsError("STORE_UNAVAILABLE", `the store does not answer: ${messageOf(error)}`, { cause: error });
    }
  }

  #addWatcher(wake: () => void): void {
    this.#watchers.add(wake);
    if (this.#poll !== undefined || this.#closed) return;
    this.#dataVersion = this.#readDataVersion();
    this.#poll = setInterval(() => {
      // Changes when another connection has committed; our own commits wake watchers themselves.
      const version = this.#readDataVersion();
      if (version === this.#dataVersion) return;
      this.#dataVersion = version;
      for (const each of this.#watchers) each();
    }, this.#pollMs);
    this.#poll.unref();
  }

  #removeWatcher(wake: () => void): void {
    this.#watchers.delete(wake);
    if (this.#watchers.size > 0) return;
    clearInterval(this.#poll);
    this.#poll = undefined;
  }

  #readDataVersion(): number {
    try {
      return Number(this.#statements.dataVersion.get()?.["data_version"]);
    } catch {
      return -1; // counts as a change: the watchers' own reads wait, retry and report
    }
  }
}

/**
 * Runs `work`, again while another process holds the lock. SQLite's own waiting would stop this thread, so the
 * database's time-out is 0 and the waiting is here.
 */
async function patiently<T>(work: () => T, database: DatabaseSync): Promise<T> {
  const deadline = performance.now() + BUSY_MS;
  for (let delayMs = 1; ; delayMs = Math.min(delayMs * 2, 50)) {
    try {
      return work();
    } catch (error) {
      if (database.isOpen && database.isTransaction) database.exec("ROLLBACK");
      if (!isBusy(error) || performance.now() > deadline) throw error;
    }
    await sleep(delayMs * (0.5 + Math.random()));
  }
}

function isBusy(error: unknown): boolean {
  // The low byte is the code, the rest says which kind of busy.
  return error instanceof Error && "errcode" in error && (Number(error.errcode) & 0xff) === SQLITE_BUSY;
}

function conflict(kind: Kind, name: string, what: string): FamfsError {
  return new FamfsError("CONFLICT", `${kind} record ${name} ${what}`);
}

function toBody(record: object): string {
  const { name: _name, resourceVersion: _version, createdAt: _created, ...body } = record as Record<string, unknown>;
  return JSON.stringify(body);
}

function readRow<K extends Kind>(kind: K, row: Row): StoredRecord<K> | Unreadable {
  try {
    return fromRow(kind, row);
  } catch (error) {
    return { name: row.name, reason: messageOf(error), devices: devicesIn(rawRegions(row)) };
  }
}

function rawRegions({ body }: Row): unknown {
  try {
    const raw: unknown = JSON.parse(body);
    return typeof raw === "object" && raw !== null && "regions" in raw ? raw.regions : undefined;
  } catch {
    return undefined;
  }
}

function fromRow<K extends Kind>(kind: K, row: Row): StoredRecord<K> {
  const path = `${kind} ${row.name}`;
  let body: unknown;
  try {
    body = JSON.parse(row.body);
  } catch (error) {
    throw new FamfsError("INTERNAL", `stored record ${path} is not JSON`, { cause: error });
  }
  const record = parseRecord(RECORD_SCHEMAS[kind], body, path);
  return {
    ...(record as Records[K]),
    name: row.name,
    resourceVersion: String(row.version),
    createdAt: row.created,
  };
}
