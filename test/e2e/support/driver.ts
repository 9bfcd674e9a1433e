/** The driver, installed on a cluster as an administrator would. */
import { mkdirSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Cluster } from "../cluster.ts";
import { buildah, exportImage, FAMFS_IMAGE } from "./images.ts";
import { programs } from "./programs.ts";

export const RELEASE = "famfs-csi";
export const NAMESPACE = "famfs-csi";
export const CHART = fileURLToPath(new URL("../../../deploy/helm/famfs-csi", import.meta.url));

/** Static programs that were built here, each as an image of its own. */
export async function buildSidecarImages(directory: string): Promise<string[]> {
  const archives: string[] = [];
  for (const program of [programs.provisioner, programs.attacher]) {
    const container = await buildah(["from", "scratch"]);
    try {
      await buildah(["copy", container, program, "/sidecar"]);
      await buildah(["config", "--entrypoint", '["/sidecar"]', container]);
      await buildah(["commit", container, sidecarImage(program)]);
    } finally {
      await buildah(["rm", container]);
    }
    const archive = join(directory, `${basename(program)}.tar`);
    await exportImage(sidecarImage(program), archive);
    archives.push(archive);
  }
  return archives;
}

function sidecarImage(program: string): string {
  const [, name, version] = /^(.*)-(v[0-9.]+)$/.exec(basename(program)) ?? [];
  return `famfs.test/${name}:${version}`;
}

/** One simulated device that both nodes reach. */
export async function installDriver(cluster: Cluster, values: object = {}): Promise<void> {
  const simulatedDevicesDir = join(cluster.directory, "memory");
  mkdirSync(simulatedDevicesDir, { recursive: true });
  const [repository, tag] = FAMFS_IMAGE.split(":");
  const all = {
    fabric: "rack-1",
    image: { repository, tag },
    controller: {
      provisioner: { image: sidecarImage(programs.provisioner) },
      attacher: { image: sidecarImage(programs.attacher) },
    },
    node: {
      kubeletDir: cluster.kubeletDirectory,
      devices: [`file://${simulatedDevicesDir}/pool0?size=2Gi`],
      simulatedDevicesDir,
    },
    ...values,
  };
  const command = ["install", RELEASE, CHART, `--namespace=${NAMESPACE}`, "--create-namespace", "--values=-"];
  await cluster.run([programs.helm, ...command, "--wait", "--timeout=120s"], { input: JSON.stringify(all) });
}
