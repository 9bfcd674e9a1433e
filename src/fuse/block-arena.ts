import { FamfsError } from "../base/index.ts";

/**
 * Hands out blocks of an array, in sizes of powers of two with one free list each. Layouts of a volume have a few
 * typical lengths, so blocks fit their next user.
 */
export class BlockArena {
  readonly #capacity: number;
  readonly #free = new Map<number, number[]>();
  readonly #sizes = new Map<number, number>();
  #end = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** Start of a block of at least `length` elements. */
  allocate(length: number): number {
    const size = 2 ** Math.ceil(Math.log2(Math.max(length, 4)));
    let block = this.#free.get(size)?.pop();
    if (block === undefined) {
      if (this.#end + size > this.#capacity) {
        throw new FamfsError("SYSTEM", `no room for a layout of ${length} numbers: ${this.#capacity} are in use`, {
          details: { errno: "ENFILE", syscall: "open" },
        });
      }
      block = this.#end;
      this.#end += size;
    }
    this.#sizes.set(block, size);
    return block;
  }

  free(block: number): void {
    const size = this.#sizes.get(block);
    if (size === undefined) throw new FamfsError("INTERNAL", `layout block ${block} was freed twice`);
    this.#sizes.delete(block);
    const list = this.#free.get(size);
    if (list === undefined) this.#free.set(size, [block]);
    else list.push(block);
  }
}
