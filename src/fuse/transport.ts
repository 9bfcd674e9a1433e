/** Where a session's answers go. The kernel transport is server.ts; tests and other transports bring their own. */
export interface Transport {
  /**
   * Sends one whole reply, the first `length` bytes of `bytes`, which may be reused afterwards. False when nobody waits
   * for it any more: the request was given up, or the connection is gone.
   */
  send(bytes: Uint8Array, length: number): boolean;
  /**
   * Sends notifications, one behind the other in `bytes`, from a thread that answers nothing. Resolves with those that
   * the kernel refused, each with its errno as `unique`; with none when the connection is over.
   */
  notify(bytes: Uint8Array): Promise<Uint8Array>;
  /** Nothing arrives and nothing is sent any more. */
  close(): void;
}
