/** The driver, installed on a cluster as an administrator would. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import type { Missing } from "../../support/prerequisites.ts";
import { Cluster } from "../cluster.ts";
import { buildah, buildFamfsImage, exportImage, FAMFS_IMAGE } from "./images.ts";
import { FABRIC } from "./objects.ts";
import { programs } from "./programs.ts";
import { report } from "./report.ts";

export const RELEASE = "famfs-csi";
export const NAMESPACE = "famfs-csi";
export const CHART = fileURLToPath(new URL("../../../deploy/helm/famfs-csi", import.meta.url));

/** Sparse: csi-sanity makes more than a hundred volumes of 10 GiB. */
export const POOL_BYTES = 1.5 * 2 ** 40;

/** A device that the stock tools formatted, on a host that both nodes of the cluster are on. */
const stockImage = new URL("../../../../shared/vectors/simple.img.gz", import.meta.url);
export const missingStockImage: Missing = existsSync(stockImage)
  ? false
  : `needs the golden image ${fileURLToPath(stockImage)}`;

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

const memoryDirectory = (cluster: Cluster) => join(cluster.directory, "memory");

/** The file that stands for the pool's one device. */
export const poolFile = (cluster: Cluster) => join(memoryDirectory(cluster), "pool0");

/** Devices as an administrator names them to the chart; those of the stock tools are put there. */
function devices(cluster: Cluster, stockDevice: boolean): string[] {
  mkdirSync(memoryDirectory(cluster), { recursive: true });
  const names = [`file://${poolFile(cluster)}?size=${POOL_BYTES}`];
  if (stockDevice && missingStockImage === false) {
    const path = join(memoryDirectory(cluster), "stock");
    if (!existsSync(path)) {
      writeFileSync(path, gunzipSync(readFileSync(stockImage)));
      truncateSync(path, stockImageContent().superblock.daxdevSize);
    }
    names.push(`file://${path}`);
  }
  return names;
}

/** What the stock tools have on a host that owns their device: its UUID. */
function stockToolsDirectory(cluster: Cluster): string {
  const directory = join(cluster.directory, "stock-tools");
  mkdirSync(directory, { recursive: true });
  const [, ...parts] = /^(.{8})(.{4})(.{4})(.{4})(.{12})$/.exec(stockImageContent().superblock.systemUuid) ?? [];
  writeFileSync(join(directory, "system_uuid"), `${parts.join("-")}\0`);
  return directory;
}

interface StockImage {
  readonly superblock: { readonly daxdevSize: number; readonly systemUuid: string };
  readonly entries: readonly {
    readonly type: string;
    readonly path: string;
    readonly size?: number;
    readonly mode: number;
  }[];
}

/** What the stock library says is in it. */
export function stockImageContent(): StockImage {
  const json = new URL("simple.json.gz", stockImage);
  return JSON.parse(gunzipSync(readFileSync(json)).toString());
}

/** What the tests' cluster needs instead of the defaults; where there is one, with a device of the stock tools. */
export function driverValues(cluster: Cluster, { stockDevice = true } = {}) {
  const [repository, tag] = FAMFS_IMAGE.split(":");
  return {
    fabric: FABRIC,
    image: { repository, tag },
    controller: {
      provisioner: { image: sidecarImage(programs.provisioner) },
      attacher: { image: sidecarImage(programs.attacher) },
    },
    node: {
      kubeletDir: cluster.kubeletDirectory,
      devices: devices(cluster, stockDevice),
      simulatedDevicesDir: memoryDirectory(cluster),
      ...(stockDevice && missingStockImage === false && { stockToolsDir: stockToolsDirectory(cluster) }),
    },
  };
}

/** Of the README's section on installing: its `helm install` line, and the values that it writes first. */
function installSection(): { readonly command: readonly string[]; readonly values: string } {
  const readme = readFileSync(new URL("../../../README.md", import.meta.url), "utf8");
  const [, values] = /^cat > values\.yaml <<END\n(.*?)^END$/ms.exec(readme) ?? [];
  const [command] = /^helm install .*$/m.exec(readme) ?? [];
  if (values === undefined || command === undefined)
    throw new Error("README.md says no more how to install the driver");
  return { command: command.split(" "), values };
}

/** `helm install` as the README has it, and what this cluster needs besides; or `helm upgrade` of what is installed. */
export async function helm(cluster: Cluster, verb: "install" | "upgrade", values: object): Promise<void> {
  const more = ["--values=-", "--wait", "--timeout=120s"];
  const options = { input: JSON.stringify(values), timeoutMs: 150_000 };
  if (verb === "upgrade") {
    await cluster.run([programs.helm, verb, RELEASE, CHART, `--namespace=${NAMESPACE}`, ...more], options);
    return;
  }
  const section = installSection();
  const file = join(cluster.directory, "values.yaml");
  writeFileSync(file, section.values);
  const here = new Map([
    ["helm", programs.helm],
    ["deploy/helm/famfs-csi", CHART],
    ["values.yaml", file],
  ]);
  await cluster.run([...section.command.map((word) => here.get(word) ?? word), ...more], options);
}

/** A cluster with the driver installed. */
export async function startDriverCluster(): Promise<Cluster> {
  const images = mkdtempSync(join(tmpdir(), "famfs-images-"));
  try {
    const famfs = join(images, "famfs.tar");
    await buildFamfsImage(famfs);
    const started = await Cluster.start({ imageArchives: [famfs, ...(await buildSidecarImages(images))] });
    try {
      await helm(started, "install", driverValues(started));
      return started;
    } catch (error) {
      process.stderr.write(`${await report(started, NAMESPACE)}\n${started.logs()}`);
      await started[Symbol.asyncDispose]();
      throw error;
    }
  } finally {
    rmSync(images, { recursive: true, force: true });
  }
}
