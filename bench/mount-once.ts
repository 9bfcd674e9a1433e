/**
 * Opens the volume on the simulated device named as a mount does, until its live tree answers, and prints how many
 * milliseconds of processor time this process took for that.
 */
import { stat } from "node:fs/promises";
import { silentLogger } from "../src/base/index.ts";
import { Device, parseDeviceSpec, VolumeMedia } from "../src/media/index.ts";
import { alwaysMine, type FileMaps, openVolumeTree } from "../src/tree/index.ts";

const [, , path = "", lastName = ""] = process.argv;
const spec = parseDeviceSpec(`file://${path}`);
if (spec.type === "uuid") throw new Error(`${path} is not a path`);
await using device = await Device.open(spec, { writable: true });
const { size } = await stat(path);

const started = process.cpuUsage();
await using media = await VolumeMedia.open(device, { offset: 0, length: size }, { writable: true });
const tree = await openVolumeTree({
  media,
  node: { nodeId: "bench", bootId: "bench", slot: 0 },
  terms: alwaysMine,
  maps: {} as FileMaps, // nothing is opened
  exclusive: () => true,
  logger: silentLogger,
});
let parent = 1;
for (const name of lastName.split("/")) {
  const found = tree.lookup(parent, name);
  if (!("attributes" in found)) throw new Error(`no ${name} of ${lastName}`);
  parent = found.attributes.nodeid;
}
const { user, system } = process.cpuUsage(started);
process.stdout.write(`${((user + system) / 1e3).toFixed(2)}\n`);
