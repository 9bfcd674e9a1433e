/** Serves the simulated devices named, each on a mount of its own, with one FUSE server, until its input ends. */
import { mkdirSync, rmdirSync } from "node:fs";
import { fuseMountArguments, native, UMOUNT } from "../native/index.ts";
import { silentLogger } from "../src/base/index.ts";
import { FuseServer } from "../src/fuse/index.ts";
import { Device } from "../src/media/index.ts";
import { serveVolume } from "../src/node/volume-server.ts";
import { alwaysMine } from "../src/tree/index.ts";

await using stack = new AsyncDisposableStack();
const fuse = stack.use(await FuseServer.open());
for (const path of process.argv.slice(2)) {
  const device = stack.use(await Device.open({ type: "path", path, sizeBytes: undefined }, { writable: true }));
  const directory = `${path}.mount`;
  mkdirSync(directory);
  stack.defer(() => rmdirSync(directory));
  const fd = native.openFuse();
  await native.mount(...fuseMountArguments(fd, directory, { fsname: "famfs-bench" }));
  stack.defer(() => native.unmount(directory, UMOUNT.DETACH));
  stack.use(
    await serveVolume({
      device,
      region: device.whole,
      fuse,
      fd,
      node: { nodeId: "bench", bootId: "bench", slot: 0 },
      terms: alwaysMine,
      settings: { shared: true },
      exclusive: false,
      logger: silentLogger,
    }),
  );
}
process.stdout.write("ready\n");
for await (const _ of process.stdin);
