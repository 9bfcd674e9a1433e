/** Where a session's answers go. The kernel transport is server.ts; tests and other transports bring their own. */
export interface Transport {
  /**
   * Sends one whole reply, the first `length` bytes of `bytes`, which may be reused afterwards. False when nobody waits
   * for it any more: the request was given up, or the connection is gone.
   */
  send(bytes: Uint8Array, length: number): boolean;
  /** Sends a notification from a thread that answers nothing; resolves with the errno, 0 when it was taken. */
  notify(bytes: Uint8Array): Promise<number>;
  /** Nothing arrives and nothing is sent any more. */
  close(): void;
}
