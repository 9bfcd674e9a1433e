/** The programs that test/e2e/support/install-cluster brings. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { firstMissing, type Missing, missingAllUsers, missingCommand, toolCache } from "../../support/prerequisites.ts";

const script = readFileSync(new URL("install-cluster", import.meta.url), "utf8");

/** Path of a program that was built, under the version that the script pins. */
function built(command: string, pin: string): string {
  const version = new RegExp(`^${pin}=(v[0-9.]+)$`, "m").exec(script)?.[1];
  if (version === undefined) throw new Error(`install-cluster pins no version of ${pin}`);
  return join(toolCache, "bin", `${command}-${version}`);
}

export const programs = {
  apiServer: built("kube-apiserver", "kubernetes"),
  controllerManager: built("kube-controller-manager", "kubernetes"),
  scheduler: built("kube-scheduler", "kubernetes"),
  kubelet: built("kubelet", "kubernetes"),
  kubectl: built("kubectl", "kubernetes"),
  provisioner: built("csi-provisioner", "provisioner"),
  attacher: built("csi-attacher", "attacher"),
  helm: built("helm", "helm"),
} as const;

const SYSTEM_COMMANDS = ["etcd", "containerd", "ctr", "runc", "buildah", "ip", "nsenter", "unshare"];

function missingPrograms(names: readonly (keyof typeof programs)[]): Missing {
  const absent = names.find((name) => !existsSync(programs[name]));
  return absent === undefined ? false : `needs ${programs[absent]} (test/e2e/support/install-cluster binaries)`;
}

/** For stores alone: etcd and an API server. */
export function missingApiServer(): Missing {
  return firstMissing(missingCommand("etcd"), missingPrograms(["apiServer"]));
}

export function missingCluster(): Missing {
  return firstMissing(
    missingAllUsers(),
    ...SYSTEM_COMMANDS.map((name) => missingCommand(name)),
    missingPrograms(Object.keys(programs) as (keyof typeof programs)[]),
  );
}
