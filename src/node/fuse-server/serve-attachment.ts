import { closeSync } from "node:fs";
import type { Logger } from "../../base/index.ts";
import { FuseServer } from "../../fuse/index.ts";
import { Device } from "../../media/index.ts";
import { parseVolumeParameters, type VolumeParameters } from "../../state/index.ts";
import type { TreeSettings } from "../../tree/index.ts";
import { serveVolume } from "../volume-server.ts";
import type { VolumeAttachment } from "./messages.ts";
import type { PluginPort, ServeWithPlugin } from "./process.ts";
import type { VolumeServer } from "./sessions.ts";

/** Serves the volumes of this process, all on one set of workers. */
export async function openServing(logger: Logger): Promise<ServeWithPlugin> {
  const fuse = await FuseServer.open({ logger });
  return (attachment, fd, plugin) => serveAttachment(fuse, attachment, fd, plugin);
}

async function serveAttachment(
  fuse: FuseServer,
  attachment: VolumeAttachment,
  fd: number,
  plugin: PluginPort,
): Promise<VolumeServer> {
  const { devicePath, cachesOf, readOnly, shared, mountGroup, node } = attachment;
  await using stack = new AsyncDisposableStack();
  let handedOn = false;
  stack.defer(() => {
    if (!handedOn) closeSync(fd);
  });
  const parameters = parseVolumeParameters(attachment.parameters);
  // A reader maps it for reading only.
  const device = stack.use(
    await Device.open(
      { type: "path", path: devicePath, sizeBytes: undefined, ...(cachesOf === undefined ? {} : { cachesOf }) },
      { writable: !readOnly, create: false },
    ),
  );
  handedOn = true;
  const served = await serveVolume({
    device,
    region: attachment.region,
    fuse,
    fd,
    node,
    terms: { acquire: (request) => plugin.acquireWriter(request), release: (epoch) => plugin.releaseWriter(epoch) },
    expect: attachment.expect,
    forWriting: !readOnly,
    settings: {
      readOnly,
      shared,
      mountGroup,
      sealDelayMs: parameters.sealDelayMs,
      writerTimeoutMs: parameters.writerTimeoutMs,
      dataWriters: parameters.dataWriters,
      striping: stripingOf(parameters),
    },
    replayIntervalMs: parameters.replayIntervalMs,
    exclusive: attachment.exclusive,
    coherent: attachment.coherent,
    idmap: true, // pods with hostUsers: false; our mounts have default_permissions, which it takes
    logger: plugin.logger,
    onProblem: (noticed) => plugin.reportProblem(noticed),
  });
  const all = new AsyncDisposableStack();
  all.use(plugin);
  all.use(device);
  all.use(served);
  stack.move();
  return {
    seal: () => served.seal(),
    abandon: () => served.abandon(),
    handOver: (options) => served.handOver(options),
    setExclusive: (exclusive) => served.setExclusive(exclusive),
    setStalled: (stalled) => served.setStalled(stalled),
    health: () => served.health(),
    figures: () => served.figures(),
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

function stripingOf({ stripe }: VolumeParameters): TreeSettings["striping"] {
  if (stripe === undefined) return undefined;
  return { nbuckets: stripe.buckets, nstrips: stripe.strips, chunkSize: stripe.chunkBytes };
}
