/** Opens the volume on the simulated device named, replays its log, and prints how many milliseconds that took. */
import { stat } from "node:fs/promises";
import { SealedTree } from "../src/format/index.ts";
import { Device, parseDeviceSpec, VolumeMedia } from "../src/media/index.ts";

const [, , path = ""] = process.argv;
const spec = parseDeviceSpec(`file://${path}`);
if (spec.type === "uuid") throw new Error(`${path} is not a path`);
await using device = await Device.open(spec, { writable: false });
const { size } = await stat(path);

const started = performance.now();
await using media = await VolumeMedia.open(device, { offset: 0, length: size }, { writable: false });
const { record } = media;
if (record === undefined) throw new Error(`${path} has no volume record`);
const tree = new SealedTree({
  regionLength: size,
  dataOffset: media.dataOffset,
  allocUnit: media.superblock.allocUnit,
  extended: true,
  rootUid: record.rootUid,
  rootGid: record.rootGid,
  rootMode: record.rootMode,
});
for (;;) {
  const { entries, findings, more } = media.poll();
  for (const { index, entry } of entries) {
    const applied = tree.apply(index, entry);
    if (applied.findings.length > 0) throw new Error(JSON.stringify(applied.findings));
  }
  if (findings.length > 0) throw new Error(JSON.stringify(findings));
  if (!more) break;
}
const taken = performance.now() - started;
if (tree.nextIndex !== media.logSlots) throw new Error(`${tree.nextIndex} of ${media.logSlots} entries replayed`);
process.stdout.write(`${taken.toFixed(2)}\n`);
