/** Calls of device.c. They throw Errors with a string `code`, or reject with one. */
export interface DeviceCalls {
  /**
   * Makes [offset, offset + length) of a file a hole, on a thread of its own: zeroes that cost nothing. EOPNOTSUPP for
   * devices and some file systems. The descriptor may be closed meanwhile.
   */
  punchHole(fd: number, offset: number, length: number): Promise<void>;
  /** The same at once, for a range so small that a thread would take longer: a few allocation units. */
  punchSmallHole(fd: number, offset: number, length: number): void;
  /**
   * `zero` of memory.ts on a thread of its own, for ranges that take long. EBADF when the window is closed meanwhile.
   */
  zeroRange(window: number, offset: number, length: number): Promise<void>;
  /** flock(2) without waiting; false when another process (or open file) holds it. Ends with the descriptor. */
  tryLock(fd: number, shared: boolean): boolean;
}
