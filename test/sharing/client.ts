/**
 * One program on one node, in a process of its own: does operations of every kind by turns, and writes the record of
 * each to its standard output. `look`: reads everything once instead, as the last word on what is there.
 */
import { writeSync } from "node:fs";
import { Actions } from "./actions.ts";
import { BLOCKS } from "./content.ts";
import { now, type Operation } from "./history.ts";
import { Random } from "./random.ts";
import { nap, VolumeRoot } from "./volume-root.ts";

export interface ClientSettings {
  readonly client: string;
  readonly node: string;
  readonly target: string;
  readonly seed: number;
  /** By the monotonic clock. */
  readonly until: number;
  /** Of new files: each takes a unit of space that does not come back while others have the volume. */
  readonly filesPerSecond: number;
  readonly look: boolean;
}

export const DIRECTORIES = ["d0", "d1"] as const;
/** Replaced and updated in place. */
const UPDATED = ["r0", "r1", "r2"] as const;
/** Replaced and overwritten. */
const OVERWRITTEN = ["o0", "o1"] as const;
const FILES = [...UPDATED, ...OVERWRITTEN] as const;
const SUBDIRECTORIES = ["m0", "m1"] as const;
const MOST_KEPT = 6;

const WEIGHTS = {
  put: 6,
  overwrite: 4,
  update: 12,
  hold: 2,
  rename: 4,
  remove: 3,
  "mkdir or rmdir": 5,
  "keep or drop": 4,
  read: 24,
  list: 8,
  sync: 3,
} as const;

class Client {
  readonly #settings: ClientSettings;
  readonly #random: Random;
  readonly #actions: Actions;
  readonly #started = now();
  #files = 0;
  /** Names that only this client uses. */
  readonly #kept: string[] = [];

  constructor(settings: ClientSettings, actions: Actions) {
    this.#settings = settings;
    this.#random = new Random(settings.seed);
    this.#actions = actions;
  }

  step(): void {
    const random = this.#random;
    const choice = random.weighted(WEIGHTS);
    const directory = random.pick(DIRECTORIES);
    const name = `${directory}/${random.pick(FILES)}`;
    const updated = `${directory}/${random.pick(UPDATED)}`;
    const fsync = random.chance(0.6);
    switch (choice) {
      case "put": {
        if (!this.#mayCreate()) return;
        const draft = `${directory}/t-${this.#actions.newId()}`;
        if (!this.#actions.create(draft, { fsync })) return;
        this.#actions.rename(draft, name);
        if (random.chance(0.5)) this.#actions.syncDirectory(directory);
        return;
      }
      case "overwrite":
        if (this.#mayCreate()) this.#actions.overwrite(`${directory}/${random.pick(OVERWRITTEN)}`, { fsync });
        return;
      case "update":
        this.#actions.update(updated, { blocks: [random.below(BLOCKS)], pauseMs: 0 }, { fsync });
        return;
      case "hold": {
        const blocks = Array.from({ length: 3 }, () => random.below(BLOCKS));
        this.#actions.update(updated, { blocks, pauseMs: random.between(5, 600) }, { fsync });
        return;
      }
      case "rename": {
        const alike = random.pick([UPDATED, OVERWRITTEN]);
        const [from, to] = [directory, random.pick(DIRECTORIES)].map((parent) => `${parent}/${random.pick(alike)}`);
        if (from !== undefined && to !== undefined && from !== to) this.#actions.rename(from, to);
        return;
      }
      case "remove":
        this.#actions.remove(name);
        return;
      case "mkdir or rmdir": {
        const subdirectory = `${directory}/${random.pick(SUBDIRECTORIES)}`;
        if (random.chance(0.5)) this.#actions.makeDirectory(subdirectory);
        else this.#actions.removeDirectory(subdirectory);
        return;
      }
      case "keep or drop":
        this.#keepOrDrop(directory);
        return;
      case "read":
        this.#actions.read(name);
        return;
      case "list":
        this.#actions.list(directory);
        return;
      case "sync":
        this.#actions.syncDirectory(directory);
    }
  }

  #keepOrDrop(directory: string): void {
    const oldest = this.#kept[0];
    if (oldest !== undefined && (this.#kept.length >= MOST_KEPT || this.#random.chance(0.4))) {
      this.#kept.shift();
      this.#actions.read(oldest);
      this.#actions.remove(oldest);
      return;
    }
    if (!this.#mayCreate()) return;
    const name = `${directory}/k-${this.#actions.newId()}`;
    if (this.#actions.create(name, { fsync: this.#random.chance(0.5) })) this.#kept.push(name);
  }

  #mayCreate(): boolean {
    const allowed = 5 + ((now() - this.#started) / 1000) * this.#settings.filesPerSecond;
    if (this.#files >= allowed) return false;
    this.#files++;
    return true;
  }
}

function main(settings: ClientSettings): void {
  const { client, node, target, seed, until, look } = settings;
  using root = new VolumeRoot(target);
  let lost = false;
  const tell = (operation: Operation) => {
    const gone = operation.errno === "ENOTCONN" || operation.errno === "ECONNABORTED";
    if (gone || (operation.errno === "ENOENT" && operation.kind === "list")) lost = true;
    writeSync(1, `${JSON.stringify(operation)}\n`);
  };
  const actions = new Actions({ client, node, root, tell });
  if (look) {
    if (!root.open(DIRECTORIES[0], until)) return;
    // Owning the log, it has all that others did.
    for (const directory of DIRECTORIES) actions.makeDirectory(`${directory}/look-${client}`);
    for (const directory of DIRECTORIES) actions.syncDirectory(directory);
    for (const directory of DIRECTORIES) {
      for (const name of actions.list(directory)) if (/^[tk]-/.test(name)) actions.read(`${directory}/${name}`);
      for (const name of FILES) actions.read(`${directory}/${name}`);
    }
    return;
  }
  const working = new Client(settings, actions);
  const random = new Random(seed ^ 0x5eed);
  while (now() < until) {
    if (lost) root.close();
    lost = false;
    if (!root.open(DIRECTORIES[0], until)) return;
    working.step();
    nap(random.between(0, 25));
  }
}

if (import.meta.main) main(JSON.parse(process.argv[2] ?? "{}") as ClientSettings);
