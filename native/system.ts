/**
 * Calls of system.c: mounts and descriptors. Calls that can hang run each on a thread of its own and return a
 * promise, never on libuv's pool (four hung calls there stop DNS and file I/O for everybody).
 */
export type SystemCalls = Record<never, never>;
