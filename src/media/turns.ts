import { ASK_LINE_SIZE, type Ask, HEARD_OFFSET, type Successor } from "../format/index.ts";
import { type AskPlaces, ask, askAgain, handOn, heardBy, waiting, withdraw } from "./ownership/asks.ts";
import { perform } from "./ownership/perform.ts";
import type { Steps } from "./ownership/steps.ts";
import type { VolumeMedia } from "./volume-media.ts";

/** The highest claim: who has the log, or had it last. */
export interface Holder {
  readonly slot: number;
  /** Another one with each claim. */
  readonly claim: string;
  readonly released: boolean;
  readonly successor: Successor | undefined;
}

/** What nodes say to each other about turns at the log of one volume (ownership/asks.ts), as the node of one slot. */
export class Turns {
  readonly slot: number;
  readonly #media: VolumeMedia;
  readonly #places: AskPlaces;

  constructor(media: VolumeMedia, places: AskPlaces, slot: number) {
    this.#media = media;
    this.#places = places;
    this.slot = slot;
  }

  /** Undefined while nobody ever had it. MEMORY_ERROR. */
  holder(): Holder | undefined {
    const { owner } = this.#media.claims();
    if (owner === undefined) return undefined;
    const { ballot, nonce, released, successor } = owner;
    return { slot: ballot.slot, claim: `${ballot.round} ${nonce}`, released, successor };
  }

  /** Those that wait, in order. */
  waiting(): readonly Ask[] {
    return this.#perform(waiting(this.#places));
  }

  ask(): Ask {
    return this.#perform(ask(this.#places, this.slot));
  }

  askAgain(last: Ask): Ask {
    return this.#perform(askAgain(this.#places, last));
  }

  withdraw(last: Ask): void {
    this.#perform(withdraw(this.#places, last));
  }

  /** Which bell the node of `slot` heard last. */
  heardBy(slot: number): bigint {
    return this.#perform(heardBy(this.#places, slot));
  }

  /** Gives the log to the next one that waits; `release` stores the claim. */
  handOn(release: (successor: Successor | undefined) => void, skips: (ask: Ask) => boolean): void {
    const step = function* (next: Ask | undefined): Steps<void> {
      yield* []; // the owner of the claim stores it
      release(next === undefined ? undefined : { slot: next.slot, ask: next.number });
    };
    this.#perform(handOn(this.#places, this.slot, step, skips));
  }

  /** Calls `onRing` soon after a node said something. That this one heard it, all can see, also while it is busy. */
  watch(onRing: () => void): Disposable {
    const { asksAt, bellAt } = this.#places;
    return this.#media.watchBell(bellAt, asksAt + this.slot * ASK_LINE_SIZE + HEARD_OFFSET, onRing);
  }

  #perform<T>(steps: Steps<T>): T {
    const { window, coherent } = this.#media;
    const findEnd = () => {
      throw new Error("turns do not read the log");
    };
    return perform(steps, { window, coherent, findEnd });
  }
}
