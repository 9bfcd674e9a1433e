import { setTimeout as delay } from "node:timers/promises";
import { native } from "../../../native/index.ts";
import { hasCode, type Logger, messageOf } from "../../base/index.ts";
import type { TreeCondition } from "../../tree/index.ts";
import { Channel, type Port } from "./channel.ts";
import type { PluginCalls, ServerCalls, VolumeAttachment, WriterTerms } from "./messages.ts";
import { channelLogger, type Serve, Sessions } from "./sessions.ts";

/** Where the supervisor puts our end of the socket that descriptors come over. */
const DESCRIPTOR_SOCKET = 4;
/** How long a server whose plugin is gone may take to seal, busy threads included. */
const ORPHAN_SECONDS = 10;

/** What serving a volume may ask of the node plugin. Disposed of when it is served no more. */
export interface PluginPort extends Disposable {
  readonly logger: Logger;
  acquireWriter(request: { timeoutMs: number; highestEpoch: number; signal: AbortSignal }): Promise<WriterTerms>;
  releaseWriter(epoch: number): Promise<void>;
  /** What the volume's condition should say; undefined when it is over. */
  reportProblem(noticed: TreeCondition | undefined): void;
}

const RELEASE_TIMEOUT_MS = 10_000;
const REPORT_RETRY_MS = 2_000;

/** Serves a volume on `fd`, which it owns from the start of the call. */
export type ServeWithPlugin = (attachment: VolumeAttachment, fd: number, plugin: PluginPort) => ReturnType<Serve>;

/** Runs this process as a FUSE server until its plugin closes the channel. `open` makes what serves the volumes. */
export function runFuseServer(open: (logger: Logger) => Promise<ServeWithPlugin>): void {
  if (process.send === undefined) throw new Error("the FUSE server is started by the node plugin, not by hand");
  const alive = native.dieWithParent(process.ppid, ORPHAN_SECONDS);
  const logger = channelLogger(() => channel);
  const sessions = new Sessions({
    logger,
    receive: () => native.receiveDescriptor(DESCRIPTOR_SOCKET),
    serve: async (attachment, fd) => (await serve)(attachment, fd, pluginPort(channel, attachment.volumeId, logger)),
    ready: async () => void (await serve),
  });
  const channel = new Channel<PluginCalls, ServerCalls>(process as Port, sessions.handlers);
  const serve = open(logger);
  serve.catch(() => undefined); // `ready` tells the plugin
  const end = () => {
    sessions[Symbol.asyncDispose]().then(
      () => process.exit(0),
      () => process.exit(1),
    );
  };
  process.on("disconnect", end);
  // Signals of the terminal reach the whole group: the plugin decides when to end.
  process.on("SIGINT", () => undefined);
  process.on("SIGTERM", () => undefined);
  if (!alive || !process.connected) end();
}

/** What `volumeId` may ask of the plugin at the other end of `channel`. */
export function pluginPort(
  channel: Pick<Channel<PluginCalls, ServerCalls>, "call">,
  volumeId: string,
  logger: Logger,
): PluginPort {
  let last: { readonly noticed: TreeCondition | undefined } | undefined;
  let reporting: Promise<void> = Promise.resolve();
  /** It is noticed once, so it is told until the record has it, or there is something newer to tell. Never fails. */
  const report = async (notice: NonNullable<typeof last>) => {
    while (last === notice) {
      try {
        return await channel.call("problem", { volumeId, ...notice }, { timeoutMs: RELEASE_TIMEOUT_MS });
      } catch (error) {
        logger.debug({ volumeId, reason: messageOf(error) }, "condition not reported");
        if (hasCode(error, "NODE_UNAVAILABLE")) return; // the plugin is gone
        await delay(REPORT_RETRY_MS, undefined, { ref: false });
      }
    }
  };
  return {
    logger: logger.child({ volumeId }),
    acquireWriter: ({ signal, ...request }) =>
      channel.call(
        "acquireWriter",
        { volumeId, ...request },
        {
          // The answer of the plugin ends the wait; this is for a plugin that hangs.
          timeoutMs: request.timeoutMs + RELEASE_TIMEOUT_MS,
          signal,
          late: ({ epoch }) => void release(channel, { volumeId, epoch }, logger),
        },
      ),
    releaseWriter: (epoch) => release(channel, { volumeId, epoch }, logger),
    reportProblem: (noticed) => {
      const notice = { noticed };
      last = notice;
      reporting = reporting.then(() => report(notice));
    },
    [Symbol.dispose]: () => {
      last = undefined;
    },
  };
}

/** Never fails: without a plugin the lease runs out by itself. */
async function release(
  channel: Pick<Channel<PluginCalls, ServerCalls>, "call">,
  term: { readonly volumeId: string; readonly epoch: number },
  logger: Logger,
): Promise<void> {
  try {
    await channel.call("releaseWriter", term, { timeoutMs: RELEASE_TIMEOUT_MS });
  } catch (error) {
    logger.debug({ ...term, reason: messageOf(error) }, "the writer grant was not given back");
  }
}
