/** What a client does to the volume, one operation at a time, and the record of each. */
import {
  closeSync,
  constants,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmdirSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { BLOCK, BLOCKS, FILE_BYTES, fillBlock, inspectContent } from "./content.ts";
import {
  ABSENT,
  type Effect,
  type Kind,
  now,
  type Operation,
  PRESENT,
  type Seen,
  type WriteAttempt,
} from "./history.ts";
import { errnoOf, nap, type VolumeRoot } from "./volume-root.ts";

const { O_CREAT, O_EXCL, O_RDWR, O_TRUNC, O_WRONLY } = constants;

/** The answer may have been lost on its way, or came in the middle of several steps. */
const AMBIGUOUS = new Set(["ENOTCONN", "ECONNABORTED", "EIO", "EINTR", "ENODEV"]);

interface Draft {
  readonly kind: Kind;
  readonly target: string;
  /** What it does when it succeeds. */
  readonly effects: readonly Effect[];
  /** What it proves by succeeding. */
  readonly proves?: readonly Seen[];
  readonly synced?: string;
}

/** Records one operation while it runs. */
class Recording {
  readonly seen: Seen[] = [];
  session: { version: string; opened: number; writes: WriteAttempt[] } | undefined;
  fsynced = false;
  damage: string | undefined;
  /** Something was changed already: a failure from here on is not a refusal. */
  changed = false;
  step = "";
  stepStart = 0;

  run<T>(step: string, call: () => T): T {
    this.step = step;
    this.stepStart = now();
    return call();
  }
}

export interface Hold {
  readonly blocks: readonly number[];
  /** Between two writes. */
  readonly pauseMs: number;
}

export class Actions {
  readonly #client: string;
  readonly #node: string;
  readonly #root: VolumeRoot;
  readonly #tell: (operation: Operation) => void;
  readonly #buffer = Buffer.alloc(FILE_BYTES + BLOCK);
  #ids = 0;

  constructor(fields: { client: string; node: string; root: VolumeRoot; tell: (operation: Operation) => void }) {
    this.#client = fields.client;
    this.#node = fields.node;
    this.#root = fields.root;
    this.#tell = fields.tell;
  }

  newId(): string {
    return `${this.#client}.${++this.#ids}`;
  }

  /** A file of a name that is never used again. Each returns whether it succeeded. */
  create(name: string, { fsync }: { fsync: boolean }): boolean {
    const version = this.newId();
    const effects = [{ register: name, value: version }];
    return this.#record({ kind: "create", target: name, effects, proves: [absent(name)] }, (recording) =>
      this.#fill(recording, name, { version, flags: O_WRONLY | O_CREAT | O_EXCL, fsync }),
    );
  }

  /** As a shell's `>`. Not for names that are updated too: on one node both have the same file open. */
  overwrite(name: string, { fsync }: { fsync: boolean }): boolean {
    const version = this.newId();
    return this.#record(
      { kind: "overwrite", target: name, effects: [{ register: name, value: version }] },
      (recording) => this.#fill(recording, name, { version, flags: O_WRONLY | O_CREAT | O_TRUNC, fsync }),
    );
  }

  /** Opens for write, looks, writes some blocks in place. */
  update(name: string, { blocks, pauseMs }: Hold, { fsync }: { fsync: boolean }): boolean {
    return this.#record({ kind: "update", target: name, effects: [] }, (recording) => {
      const fd = recording.run("open", () => openSync(this.#root.path(name), O_RDWR));
      this.#closing(recording, fd, () => {
        const opened = now();
        recording.step = "pread";
        const { versions, blocks: found } = this.#look(recording, name, fd, true);
        const [version] = versions;
        if (version === undefined || found.length < BLOCKS) return; // somebody's unfinished file
        const writes: WriteAttempt[] = [];
        recording.session = { version, opened, writes };
        let failed: unknown;
        for (const [i, block] of blocks.entries()) {
          if (i > 0) nap(pauseMs);
          const id = this.newId();
          const start = now();
          recording.step = "pwrite";
          recording.stepStart = start;
          try {
            recording.changed = true;
            writeSync(fd, fillBlock(version, block, id), 0, BLOCK, block * BLOCK);
            writes.push({ block, id, start, end: now() });
          } catch (error) {
            writes.push({ block, id, start, end: now(), errno: errnoOf(error) });
            failed ??= error;
          }
        }
        if (failed !== undefined) throw failed;
        if (fsync) recording.run("fsync", () => fsyncSync(fd));
        recording.fsynced = fsync;
      });
    });
  }

  read(name: string): boolean {
    return this.#record({ kind: "read", target: name, effects: [] }, (recording) => {
      const fd = recording.run("open", () => openSync(this.#root.path(name), "r"));
      this.#closing(recording, fd, () => recording.run("read", () => this.#look(recording, name, fd, false)));
    });
  }

  list(directory: string): string[] {
    let names: string[] = [];
    this.#record({ kind: "list", target: directory, effects: [] }, (recording) => {
      names = recording.run("readdir", () => readdirSync(this.#root.path(directory)));
      const doubled = names.filter((name, at) => names.indexOf(name) !== at);
      if (doubled.length > 0) recording.damage = `${directory} lists ${doubled.join(", ")} twice`;
      recording.seen.push({ register: directory, value: JSON.stringify(names), current: false });
    });
    return names;
  }

  rename(from: string, to: string): boolean {
    const effects: Effect[] = [
      { register: to, moved: from },
      { register: from, value: ABSENT },
    ];
    return this.#single({ kind: "rename", target: `${from} to ${to}`, effects, proves: [present(from)] }, from, () =>
      renameSync(this.#root.path(from), this.#root.path(to)),
    );
  }

  remove(name: string): boolean {
    const effects: Effect[] = [{ register: name, value: ABSENT }];
    return this.#single({ kind: "remove", target: name, effects, proves: [present(name)] }, name, () =>
      unlinkSync(this.#root.path(name)),
    );
  }

  makeDirectory(name: string): boolean {
    const effects: Effect[] = [{ register: name, value: this.newId() }];
    return this.#single({ kind: "mkdir", target: name, effects, proves: [absent(name)] }, name, () =>
      mkdirSync(this.#root.path(name)),
    );
  }

  removeDirectory(name: string): boolean {
    const effects: Effect[] = [{ register: name, value: ABSENT }];
    return this.#single({ kind: "rmdir", target: name, effects, proves: [present(name)] }, name, () =>
      rmdirSync(this.#root.path(name)),
    );
  }

  syncDirectory(directory: string): boolean {
    return this.#record({ kind: "fsync directory", target: directory, effects: [], synced: directory }, (recording) => {
      const fd = recording.run("open", () => openSync(this.#root.path(directory), "r"));
      this.#closing(recording, fd, () => recording.run("fsync", () => fsyncSync(fd)));
    });
  }

  #fill(
    recording: Recording,
    name: string,
    { version, flags, fsync }: { version: string; flags: number; fsync: boolean },
  ): void {
    const bytes = Buffer.concat(Array.from({ length: BLOCKS }, (_, index) => fillBlock(version, index, version)));
    const fd = recording.run("open", () => openSync(this.#root.path(name), flags, 0o644));
    recording.changed = true;
    this.#closing(recording, fd, () => {
      recording.run("write", () => {
        if (writeSync(fd, bytes) !== bytes.byteLength) recording.damage = `a short write into ${name}`;
      });
      if (fsync) recording.run("fsync", () => fsyncSync(fd));
      recording.fsynced = fsync;
    });
  }

  /** One system call on names. */
  #single(draft: Draft, name: string, call: () => void): boolean {
    return this.#record(draft, (recording) => {
      try {
        recording.run(draft.kind, call);
      } catch (error) {
        // Looked up without the right to write: what is said of the name may be a moment old.
        if (errnoOf(error) === "ENOENT") recording.seen.push({ ...absent(name), current: false });
        if (errnoOf(error) === "EEXIST") recording.seen.push({ ...present(name), current: false });
        throw error;
      }
    });
  }

  #look(recording: Recording, name: string, fd: number, current: boolean) {
    const length = readSync(fd, this.#buffer, 0, this.#buffer.byteLength, 0);
    const content = inspectContent(this.#buffer.subarray(0, length));
    recording.damage ??= content.damage === undefined ? undefined : `${name}: ${content.damage}`;
    const value = content.versions[0] ?? PRESENT;
    const { versions: mixed, blocks } = content;
    recording.seen.push({ register: name, value, current, blocks, ...(mixed.length > 1 ? { mixed } : {}) });
    return content;
  }

  /** Closes `fd` whatever happens; the first error counts. */
  #closing(recording: Recording, fd: number, body: () => void): void {
    let failure: { error: unknown } | undefined;
    try {
      body();
    } catch (error) {
      failure = { error };
    }
    const { step, stepStart } = recording;
    try {
      recording.run("close", () => closeSync(fd));
    } catch (error) {
      failure ??= { error };
    }
    if (failure === undefined) return;
    if (recording.step === "close" && step !== "") Object.assign(recording, { step, stepStart });
    throw failure.error;
  }

  #record(draft: Draft, body: (recording: Recording) => void): boolean {
    const recording = new Recording();
    const start = now();
    recording.stepStart = start;
    let errno: string | undefined;
    try {
      body(recording);
    } catch (error) {
      errno = errnoOf(error);
      const ofFile = draft.kind !== "list" && draft.kind !== "fsync directory";
      if (errno === "ENOENT" && ofFile && recording.seen.length === 0) {
        recording.seen.push({ ...absent(draft.target), current: false });
      }
    }
    const { kind, target, effects } = draft;
    const ambiguous = recording.changed || (errno !== undefined && AMBIGUOUS.has(errno));
    this.#tell({
      client: this.#client,
      node: this.#node,
      kind,
      target,
      start,
      end: now(),
      stepStart: recording.stepStart,
      ...(errno === undefined ? {} : { errno, step: recording.step }),
      outcome: errno === undefined ? "done" : ambiguous ? "unknown" : "refused",
      effects,
      seen: errno === undefined ? [...recording.seen, ...(draft.proves ?? [])] : recording.seen,
      ...(recording.session === undefined ? {} : { session: recording.session }),
      ...(draft.synced === undefined ? {} : { synced: draft.synced }),
      ...(recording.fsynced ? { fsynced: true } : {}),
      ...(recording.damage === undefined ? {} : { damage: recording.damage }),
    });
    return errno === undefined;
  }
}

function absent(register: string): Seen {
  return { register, value: ABSENT, current: true };
}

function present(register: string): Seen {
  return { register, value: PRESENT, current: true };
}
