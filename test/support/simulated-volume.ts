/** A volume in a temporary simulated device, for tests of everything above `src/format`. */
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Extent, MIB } from "../../src/base/index.ts";
import type { LogEntry } from "../../src/format/index.ts";
import { Device, formatVolume, type VolumeFormat, VolumeMedia } from "../../src/media/index.ts";

let privateCaches = false;

/**
 * From now on the views of a volume are those of hosts whose caches do not agree (`caches=` in
 * src/media/device-spec.ts), and know it. For files that run the tests of others once more (`incoherent.test.ts`).
 */
export function useIncoherentMemory(): void {
  privateCaches = true;
}

let layout: 1 | 2 | undefined;

/** From now on volumes are made as they were before layout 2. For files that run the tests of others once more. */
export function useLayout1(): void {
  layout = 1;
}

export interface SimulatedVolume extends AsyncDisposable {
  readonly path: string;
  readonly device: Device;
  readonly region: Extent;
  /**
   * Another view of the same memory, as another node has it; closed with the volume. `host`: through the caches of
   * that host, which agree with no other's.
   */
  open(options?: { writable?: boolean; coherent?: boolean; host?: string }): Promise<VolumeMedia>;
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
    ...(layout === undefined ? {} : { layout }),
    ...options.format,
  });
  const views = stack.use(new AsyncDisposableStack());
  const owned = stack.move();
  let opened = 0;
  /** The device as a host sees it; one more host for each view unless it has a name. */
  const deviceOf = async (host: string | undefined): Promise<Device> => {
    if (host === undefined && !privateCaches) return device;
    const cachesOf = host ?? `view-${opened++}`;
    return views.use(await Device.open({ type: "path", path, sizeBytes: undefined, cachesOf }, { writable: true }));
  };
  return {
    path,
    device,
    region,
    async open({ writable = true, host, coherent = host === undefined } = {}) {
      const seen = await deviceOf(host);
      return views.use(await VolumeMedia.open(seen, region, { writable, coherent: coherent && !privateCaches }));
    },
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
