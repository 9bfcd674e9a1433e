/** FUSE: our own session on /dev/fuse. Declares the operations it calls (operations.ts) and knows nothing of famfs. */
export * from "./errno.ts";
export type * from "./file-map.ts";
export type { KernelFacts } from "./negotiate.ts";
export type * from "./operations.ts";
export { type AttachOptions, FuseServer, type FuseServerOptions } from "./server.ts";
export type { Session, SessionOptions } from "./session.ts";
export type { OpcodeCounts, SessionStats } from "./stats.ts";
