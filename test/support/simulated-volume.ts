/** A volume in a temporary simulated device, for tests of everything above `src/format`. */
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MIB } from "../../src/base/index.ts";
import type { LogEntry } from "../../src/format/index.ts";
import { Device, formatVolume, type Range, type VolumeFormat, VolumeMedia } from "../../src/media/index.ts";

export interface SimulatedVolume extends AsyncDisposable {
  readonly path: string;
  readonly device: Device;
  readonly region: Range;
  /** Another view of the same memory, as another node has it; closed with the volume. */
  open(options?: { writable?: boolean; coherent?: boolean }): Promise<VolumeMedia>;
}

export async function simulatedVolume(
  options: { readonly dataBytes?: number; readonly format?: Partial<VolumeFormat> } = {},
): Promise<SimulatedVolume> {
  await using stack = new AsyncDisposableStack();
  const folder = mkdtempSync(join(tmpdir(), "famfs-volume-"));
  stack.defer(() => rmSync(folder, { recursive: true }));
  const logLength = options.format?.logLength ?? 8 * MIB;
  // Not at the start of the device, so that offsets in the region and on the device differ.
  const region = { offset: 4 * MIB, length: 2 * MIB + logLength + (options.dataBytes ?? 64 * MIB) };
  const path = join(folder, "device");
  const device = stack.use(
    await Device.open({ type: "path", path, sizeBytes: region.offset + region.length + 2 * MIB }, { writable: true }),
  );
  await formatVolume(device, region, {
    uuid: randomUUID(),
    name: "test",
    uid: 0,
    gid: 0,
    mode: 0o755,
    generation: 1,
    createdSeconds: 0,
    ...options.format,
  });
  const views = stack.use(new AsyncDisposableStack());
  const owned = stack.move();
  return {
    path,
    device,
    region,
    open: async ({ writable = true, coherent = true } = {}) =>
      views.use(await VolumeMedia.open(device, region, { writable, coherent })),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** An entry that is always legal: a directory of the root. */
export function directory(name: string): LogEntry {
  return { type: "mkdir", path: name, uid: 0, gid: 0, mode: 0o755 };
}

/** Takers with the names and boots of test nodes. */
export function taker(slot: number, epoch: number): { slot: number; nodeId: string; bootId: string; epoch: number } {
  return { slot, nodeId: `node-${slot}`, bootId: `boot-of-node-${slot}`, epoch };
}
