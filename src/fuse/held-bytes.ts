import { FamfsError, formatSize, MIB } from "../base/index.ts";

/** Of one connection: what its WRITEs that wait for another node may hold. */
const WAITING_OF_CONNECTION = 32 * MIB;
/** Of all connections of this server. */
const WAITING = 128 * MIB;
/** What all WRITEs on the main thread may hold, those that only wait for space to be zeroed among them. */
const ALL = 256 * MIB;

/**
 * The data of WRITEs that are kept until they can be written. The kernel sends as many as programs have threads, so
 * without a bound one pod takes the memory of the node, and with it the server of all its volumes.
 */
export class HeldBytes {
  #all = 0;
  #waiting = 0;
  readonly #ofConnection = new Map<number, number>();

  /** While the main thread has it; refused before it is copied where it would only be refused its wait. OVERLOADED. */
  hold(connection: number, bytes: number): Disposable {
    this.#requireRoom(connection, bytes);
    if (this.#all + bytes > ALL) throw overloaded(this.#all, "this server");
    this.#all += bytes;
    return {
      [Symbol.dispose]: () => {
        this.#all -= bytes;
      },
    };
  }

  /** While it waits for what may take long. OVERLOADED. */
  wait(connection: number, bytes: number): Disposable {
    this.#requireRoom(connection, bytes);
    this.#add(connection, bytes);
    return { [Symbol.dispose]: () => this.#add(connection, -bytes) };
  }

  #requireRoom(connection: number, bytes: number): void {
    const before = this.#ofConnection.get(connection) ?? 0;
    if (before + bytes > WAITING_OF_CONNECTION) throw overloaded(before, "this mount");
    if (this.#waiting + bytes > WAITING) throw overloaded(this.#waiting, "this server");
  }

  #add(connection: number, bytes: number): void {
    this.#waiting += bytes;
    const held = (this.#ofConnection.get(connection) ?? 0) + bytes;
    if (held === 0) this.#ofConnection.delete(connection);
    else this.#ofConnection.set(connection, held);
  }
}

function overloaded(bytes: number, where: string): FamfsError {
  return new FamfsError("OVERLOADED", `${formatSize(bytes)} of writes wait on ${where} already; try again`);
}
