/** Calls of device.c: files that stand for devices. They throw Errors with a string `code`. */
export interface DeviceCalls {
  /** Makes [offset, offset + length) of a file a hole: zeroes that cost nothing. EOPNOTSUPP for devices. */
  punchHole(fd: number, offset: number, length: number): void;
  /** flock(2) without waiting; false when another process (or open file) holds it. Ends with the descriptor. */
  tryLock(fd: number, shared: boolean): boolean;
}
