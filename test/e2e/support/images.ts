/** Container images without a registry: built by buildah, handed over as files. */
import { existsSync, mkdirSync, mkdtempSync, realpathSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { toolCache } from "../../support/prerequisites.ts";
import { run } from "./run.ts";

/** What pods of the tests run, and what holds the namespaces of every pod: a shell with the usual commands. */
export const TOOLS_IMAGE = "famfs.test/tools:1";

/** Layers are kept between runs, so that only what changed is built. */
const storage = join(toolCache, "buildah");

export async function buildah(args: readonly string[], timeoutMs?: number): Promise<string> {
  mkdirSync(storage, { recursive: true });
  const runRoot = join(storage, "run");
  const [command = "", ...rest] = args;
  const options = ["--root", join(storage, "root"), "--runroot", runRoot, "--storage-driver", "overlay"];
  const policy = join(storage, "policy.json");
  writeFileSync(policy, JSON.stringify({ default: [{ type: "insecureAcceptAnything" }] }));
  const needsPolicy = ["from", "bud", "push"].includes(command) ? ["--signature-policy", policy] : [];
  return (
    await run(["buildah", ...options, command, ...needsPolicy, ...rest], {
      environment: { BUILDAH_ISOLATION: "chroot" },
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    })
  ).stdout.trim();
}

/**
 * Writes the image into a file that containerd takes, as `docker save` does: to compress it takes longer than to copy.
 */
export async function exportImage(name: string, archive: string): Promise<void> {
  await buildah(["push", name, `docker-archive:${archive}:${name}`], 300_000);
}

export async function buildToolsImage(archive: string): Promise<void> {
  const container = await buildah(["from", "scratch"]);
  try {
    await buildah(["copy", container, "/bin/busybox", "/bin/busybox"]);
    await buildah(["run", container, "--", "/bin/busybox", "--install", "-s", "/bin"]);
    await buildah(["config", "--env", "PATH=/bin", "--cmd", '["/bin/sleep","2147483647"]', container]);
    await buildah(["commit", container, TOOLS_IMAGE]);
  } finally {
    await buildah(["rm", container]);
  }
  await exportImage(TOOLS_IMAGE, archive);
}

/** What the Dockerfile builds on here: Debian with a C compiler, and this machine's npm. Made once and kept. */
const BUILD_IMAGE = "famfs.test/build:1";

async function ensureBuildImage(): Promise<void> {
  const known = await buildah([
    "images",
    "--format",
    "{{.Name}}:{{.Tag}}",
    "--filter",
    `reference=${BUILD_IMAGE}`,
  ]).catch(() => "");
  if (known.includes(BUILD_IMAGE)) return;
  const root = mkdtempSync(join(tmpdir(), "famfs-build-image-"));
  try {
    await run(["debootstrap", "--variant=minbase", "--include=gcc,libc6-dev", "bookworm", root], {
      timeoutMs: 600_000,
    });
    const npm = dirname(dirname(realpathSync((await run(["sh", "-c", "command -v npm"])).stdout.trim())));
    await run(["cp", "-r", npm, join(root, "usr/lib/npm")]);
    await run(["cp", process.execPath, join(root, "usr/local/bin/node")]);
    writeFileSync(join(root, "usr/local/bin/npm"), '#!/bin/sh\nexec node /usr/lib/npm/bin/npm-cli.js "$@"\n', {
      mode: 0o755,
    });
    // The machine may reach registries only through a proxy with a certificate of its own.
    const certificates = "/etc/ssl/certs/ca-certificates.crt";
    const container = await buildah(["from", "scratch"]);
    await buildah(["copy", container, root, "/"], 300_000);
    if (existsSync(certificates)) await buildah(["copy", container, certificates, certificates]);
    await buildah(["config", "--env", `NODE_EXTRA_CA_CERTS=${certificates}`, container]);
    await buildah(["commit", container, BUILD_IMAGE], 300_000);
    await buildah(["rm", container]);
  } finally {
    await run(["rm", "-rf", "--one-file-system", root]);
  }
}

/** The image of the project, by its own Dockerfile. */
export const FAMFS_IMAGE = "famfs.test/famfs-csi:e2e";

export async function buildFamfsImage(archive: string): Promise<void> {
  await ensureBuildImage();
  const context = fileURLToPath(new URL("../../..", import.meta.url));
  const options = ["--layers", "--build-arg", `BUILD_IMAGE=${BUILD_IMAGE}`, "--tag", FAMFS_IMAGE];
  await buildah(["bud", ...options, "--ignorefile", join(context, ".dockerignore"), context], 600_000);
  await exportImage(FAMFS_IMAGE, archive);
}
