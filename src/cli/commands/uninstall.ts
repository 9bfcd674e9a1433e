import type { Command } from "commander";
import { formatSize } from "../../base/index.ts";
import { isManaged, type Remains, Uninstall } from "../../state/index.ts";
import { EXIT } from "../exit-code.ts";
import { globals } from "../globals.ts";
import { print, printJson } from "../output.ts";

interface UninstallFlags {
  readonly check?: boolean;
  readonly force?: boolean;
  readonly kubeconfig?: string;
}

/** As many as a person reads. */
const SHOWN = 20;

export function registerUninstallCommand(program: Command): void {
  program
    .command("uninstall")
    .description("What the Helm chart's hooks run around `helm uninstall`; removes nothing that holds data.")
    .option("--check", "before: say what would be left without a driver, and fail if anything would")
    .option("--force", "with --check: volumes may stay, as long as no pod uses them")
    .option("--kubeconfig <file>", "credentials for the Kubernetes API (default: the pod's service account)")
    .addHelpText(
      "after",
      `
Without --check, after the driver is gone: takes the driver's finalizers off what is left, so that it can be deleted
without a driver. Records of volumes stay; a driver that is installed later serves them again.

Exit code 0: done, or nothing in the way; 1: something is.`,
    )
    .action(async ({ check, force = false, kubeconfig }: UninstallFlags, command: Command) => {
      using uninstall = await Uninstall.open({ environment: process.env, kubeconfig });
      if (check !== true) {
        await uninstall.letGo();
        print("the driver's records need no driver any more");
        return;
      }
      const obstacles = obstaclesOf(await uninstall.remains(), force);
      if (globals(command).output === "json") printJson({ obstacles });
      else print(explain(obstacles));
      if (obstacles.length > 0) process.exitCode = EXIT.negative;
    });
}

interface Obstacle {
  readonly kind: "FamfsVolume" | "PersistentVolume";
  readonly name: string;
  readonly reason: string;
  /** A pod uses it: its mount would answer nobody, and the kubelet could not take it away. */
  readonly inUse: boolean;
}

function obstaclesOf({ volumes, unreadable, persistentVolumes }: Remains, force: boolean): Obstacle[] {
  const ofVolumes = volumes.flatMap((volume): Obstacle[] => {
    const { name, phase, capacityBytes, published } = volume;
    const nodes = Object.keys(published).toSorted();
    if (nodes.length > 0) {
      return [{ kind: "FamfsVolume", name, reason: `used by pods on ${nodes.join(", ")}`, inUse: true }];
    }
    if (force || !isManaged(volume)) return [];
    const reason = phase === "Reclaiming" ? "being erased; wait" : `${formatSize(capacityBytes)}, ${phase}`;
    return [{ kind: "FamfsVolume", name, reason, inUse: false }];
  });
  if (force) return ofVolumes;
  const broken = unreadable.map((name): Obstacle => {
    return { kind: "FamfsVolume", name, reason: "its record cannot be read: kubectl edit or delete it", inUse: false };
  });
  const named = new Set([...ofVolumes, ...broken].map(({ name }) => name));
  const ofClaims = persistentVolumes
    .filter(({ volumeId }) => !named.has(volumeId))
    .map(({ name, volumeId }): Obstacle => {
      return { kind: "PersistentVolume", name, reason: `names volume ${volumeId}`, inUse: false };
    });
  return [...ofVolumes, ...broken, ...ofClaims];
}

function explain(obstacles: readonly Obstacle[]): string {
  if (obstacles.length === 0) return "nothing would be left without a driver";
  const shown = obstacles.slice(0, SHOWN).map(({ kind, name, reason }) => `  ${kind} ${name}: ${reason}`);
  const more = obstacles.length - shown.length;
  const ways = obstacles.some(({ inUse }) => inUse)
    ? ["Delete the pods that use them first: without a driver their mounts answer nobody and cannot be taken away."]
    : [
        "Delete their claims, and wait until `kubectl get famfsvolumes` and `kubectl get pv` show none of them.",
        "Or leave them in the memory for a later installation, with the chart's value uninstall.force=true.",
      ];
  // As Helm has it; nothing of the release is gone.
  const next = [
    "Then uninstall again. To go on with the release instead, or to set a value: Helm has marked it as uninstalling,",
    "which `helm rollback RELEASE REVISION` ends, with the last revision of `helm history RELEASE`.",
  ];
  return [
    "The driver is still needed:",
    ...shown,
    ...(more > 0 ? [`  and ${more} more`] : []),
    "",
    ...ways,
    ...next,
  ].join("\n");
}
