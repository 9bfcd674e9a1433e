/** The file systems compared: plain tmpfs, libfuse 3's own passthrough_ll in C over tmpfs, and a famfs volume. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { mountDevice, mountedAt, simulatedDevice } from "../test/support/program.ts";

/** Debian's libfuse3-dev carries it; its header comment calls it the example closest to a real file system. */
const PEER_SOURCE = "/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c";

export interface Peer {
  readonly name: "famfs" | "tmpfs" | "libfuse";
  readonly directory: string;
  /** The process whose memory (with its children's) is the server's. */
  readonly pid: number | undefined;
}

function compile(source: string, output: string, ...more: string[]): void {
  const { status, stderr } = spawnSync("cc", ["-O2", "-w", "-o", output, source, "-pthread", ...more], {
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`cc ${source} failed:\n${stderr}`);
}

export interface Bench extends AsyncDisposable {
  readonly measure: string;
  readonly peers: readonly Peer[];
  /** For more devices and mounts. */
  readonly scratch: string;
}

async function mountPeer(program: string, source: string, directory: string): Promise<ChildProcess> {
  const child = spawn(program, ["-f", "-o", `source=${source},cache=always`, directory], { stdio: "ignore" });
  for (let tries = 0; mountedAt(directory) === undefined; tries++) {
    if (tries > 200 || child.exitCode !== null) throw new Error("passthrough_ll did not mount");
    await setTimeout(20);
  }
  return child;
}

/** Compiles the two C programs and mounts everything; disposing unmounts and removes it all. */
export async function openBench(): Promise<Bench> {
  if (!existsSync(PEER_SOURCE)) {
    throw new Error(`the C file system to compare with is missing: apt-get install libfuse3-dev (${PEER_SOURCE})`);
  }
  await using stack = new AsyncDisposableStack();
  const scratch = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "famfs-csi-bench-"));
  stack.defer(() => rmSync(scratch, { recursive: true, force: true }));
  process.env["TMPDIR"] = scratch;
  const at = (...path: string[]) => join(scratch, ...path);
  for (const name of ["tmpfs", "source", "libfuse"]) mkdirSync(at(name));

  const measure = at("measure");
  compile(fileURLToPath(new URL("measure.c", import.meta.url)), measure);
  compile(
    PEER_SOURCE,
    at("passthrough_ll"),
    "-D_FILE_OFFSET_BITS=64",
    "-DFUSE_USE_VERSION=34",
    "-I/usr/include/fuse3",
    "-lfuse3",
  );
  const peer = await mountPeer(at("passthrough_ll"), at("source"), at("libfuse"));
  stack.defer(async () => {
    spawnSync("umount", [at("libfuse")], { timeout: 10_000 });
    if (peer.exitCode === null) peer.kill();
    await setTimeout(100);
  });
  const device = stack.use(simulatedDevice("16Gi"));
  const mounted = stack.use(await mountDevice(device.url));

  const kept = stack.move();
  return {
    measure,
    scratch,
    peers: [
      { name: "famfs", directory: mounted.directory, pid: mounted.server.child.pid },
      { name: "libfuse", directory: at("libfuse"), pid: peer.pid },
      { name: "tmpfs", directory: at("tmpfs"), pid: undefined },
    ],
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}
