/** Calls of fuse.c: the kernel transport. Written together with `src/fuse`. */
export type FuseCalls = Record<never, never>;
