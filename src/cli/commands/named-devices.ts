import { FamfsError } from "../../base/index.ts";
import { deviceCandidates, parseDeviceSpec, type ScanResult, scanDevices } from "../../media/index.ts";

/** The devices at `names`, by default everywhere they may be, and why the others are none. INVALID_ARGUMENT. */
export async function scanNamed(names: readonly string[]): Promise<ScanResult> {
  return scanDevices(names.length === 0 ? await deviceCandidates() : names.map(pathOf));
}

function pathOf(name: string): string {
  const spec = parseDeviceSpec(name);
  if (spec.type === "path") return spec.path;
  throw new FamfsError("INVALID_ARGUMENT", `${name} is a UUID; without a name all of them are looked at`);
}
