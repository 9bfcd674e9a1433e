import { type FreeSpace, freeSpaceOf } from "../alloc/index.ts";
import type { FamfsDevice, Region, StoredRecord } from "../state/index.ts";

/** What the volumes known so far have of one device, and what is free between that, kept up to date. */
export class DeviceUse {
  readonly #regions = new Map<string, Region>();
  #space: { readonly sizeBytes: number; readonly free: FreeSpace } | undefined;
  /** Some regions overlap or lie outside: one that goes does not free all that it had. */
  #tangled = false;
  /** All regions that were given up to this generation are here, in the life of the device's record that began then. */
  #complete = { since: "", generation: 0 };
  #highest = 0;

  /** `owner` is the volume's record in one of its lives. */
  add(owner: string, region: Region, generation: number): void {
    this.#regions.set(keyOf(owner, region), region);
    if (this.#space !== undefined) this.#take(this.#space.free, region);
    this.#highest = Math.max(this.#highest, generation);
    const { since } = this.#complete;
    // Allocations on a device come one after the other, so whoever sees one has seen those before it
    // (docs/decisions/0011).
    if (generation > this.#complete.generation) this.#complete = { since, generation };
  }

  remove(owner: string, region: Region): void {
    if (!this.#regions.delete(keyOf(owner, region)) || this.#space === undefined) return;
    if (this.#tangled) this.#space = undefined;
    else this.#space.free.free(region.offset, region.length);
  }

  /** The highest generation known: what comes next is beyond it, also where the device's record was made anew. */
  get highestGeneration(): number {
    return this.#highest;
  }

  /** Whether all regions that were given before the device's record was as it is now are here. */
  isComplete({ createdAt, generation }: StoredRecord<"devices">): boolean {
    return this.#complete.since === createdAt && this.#complete.generation === generation;
  }

  /** Whether more was given since the device's record was as it is here; or it was lost, and made anew at once. */
  isPast({ createdAt, generation }: StoredRecord<"devices">): boolean {
    return this.#complete.since === createdAt && this.#complete.generation > generation;
  }

  /** Said by who knows it: all volumes were read after the device. */
  setComplete({ createdAt, generation }: StoredRecord<"devices">): void {
    const known = this.#complete.since === createdAt ? this.#complete.generation : 0;
    this.#complete = { since: createdAt, generation: Math.max(generation, known) };
  }

  /** The free space of the device; not to be changed by the caller. */
  freeSpace({ sizeBytes }: Pick<FamfsDevice, "sizeBytes">): FreeSpace {
    if (this.#space?.sizeBytes !== sizeBytes) {
      this.#tangled = false;
      this.#space = { sizeBytes, free: this.copyOfFreeSpace({ sizeBytes }, []) };
    }
    return this.#space.free;
  }

  /** A copy, in which these are taken, too. */
  copyOfFreeSpace({ sizeBytes }: Pick<FamfsDevice, "sizeBytes">, regions: readonly Region[]): FreeSpace {
    const free = freeSpaceOf({ sizeBytes });
    for (const region of this.#regions.values()) this.#take(free, region);
    for (const region of regions) free.take(region.offset, region.length);
    return free;
  }

  #take(free: FreeSpace, { offset, length }: Region): void {
    const before = free.freeBytes;
    if (length > 0) free.take(offset, length);
    if (length === 0 || before - free.freeBytes !== length) this.#tangled = true;
  }
}

function keyOf(owner: string, { offset, length }: Region): string {
  return `${owner} ${offset} ${length}`;
}
