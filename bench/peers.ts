/**
 * The file systems compared: plain tmpfs, libfuse 3's own passthrough_ll in C over tmpfs, a famfs volume, and the same
 * in JavaScript over tmpfs with `fuse-native` where that is installed.
 */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { mountDevice, mountedAt, simulatedDevice } from "../test/support/program.ts";
import { prepareSources, type Tools } from "./rows.ts";
import type { PeerName } from "./samples.ts";

/** Debian's libfuse3-dev carries it; its header comment calls it the example closest to a real file system. */
const PEER_SOURCE = "/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c";

export interface Peer {
  readonly name: PeerName;
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

export interface Bench extends AsyncDisposable, Tools {
  /** The compiled contend.c. */
  readonly contend: string;
  readonly peers: readonly Peer[];
  /** For more devices and mounts. */
  readonly scratch: string;
}

interface Program {
  readonly command: readonly [string, ...string[]];
  readonly environment?: Readonly<Record<string, string>>;
}

/** Runs a program that mounts itself at `directory` until it is disposed. */
async function mountPeer({ command: [program, ...args], environment = {} }: Program, directory: string) {
  const child = spawn(program, args, { stdio: "ignore", env: { ...process.env, ...environment } });
  for (let tries = 0; mountedAt(directory) === undefined; tries++) {
    if (tries > 200 || child.exitCode !== null) throw new Error(`${program} did not mount`);
    await setTimeout(20);
  }
  return {
    pid: child.pid,
    async [Symbol.asyncDispose]() {
      spawnSync("umount", [directory], { timeout: 10_000 });
      if (child.exitCode === null) child.kill();
      await setTimeout(100);
    },
  };
}

/**
 * Its addon wants libfuse.so.2, which it carries under another name. Undefined, and said once, where it is not
 * installed or there is no binary of it for this machine.
 */
function fuseNative(scratch: string, source: string, directory: string): Program | undefined {
  try {
    const package_ = dirname(createRequire(import.meta.url).resolve("fuse-native/package.json"));
    const library = join(package_, "prebuilds", `${process.platform}-${process.arch}`, "libfuse.so");
    if (!existsSync(library)) throw new Error(`there is no ${library}`);
    symlinkSync(library, join(scratch, "libfuse.so.2"));
  } catch (error) {
    process.stderr.write(`without fuse-native: ${String(error).split("\n")[0]}\n`);
    return undefined;
  }
  const program = fileURLToPath(new URL("fuse-native-peer.mjs", import.meta.url));
  return { command: [process.execPath, program, source, directory], environment: { LD_LIBRARY_PATH: scratch } };
}

/** Compiles the C programs and mounts everything; disposing unmounts and removes it all. */
export async function openBench(): Promise<Bench> {
  if (!existsSync(PEER_SOURCE)) {
    throw new Error(`the C file system to compare with is missing: apt-get install libfuse3-dev (${PEER_SOURCE})`);
  }
  await using stack = new AsyncDisposableStack();
  const scratch = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "famfs-csi-bench-"));
  stack.defer(() => rmSync(scratch, { recursive: true, force: true }));
  process.env["TMPDIR"] = scratch;
  const at = (...path: string[]) => join(scratch, ...path);
  for (const name of ["tmpfs", "source", "libfuse", "source-native", "fuse-native"]) mkdirSync(at(name));

  const [measure, contend] = [at("measure"), at("contend")];
  compile(fileURLToPath(new URL("measure.c", import.meta.url)), measure);
  compile(fileURLToPath(new URL("contend.c", import.meta.url)), contend);
  compile(
    PEER_SOURCE,
    at("passthrough_ll"),
    "-D_FILE_OFFSET_BITS=64",
    "-DFUSE_USE_VERSION=34",
    "-I/usr/include/fuse3",
    "-lfuse3",
  );
  await prepareSources(at("sources"));
  const inC = [at("passthrough_ll"), "-f", "-o", `source=${at("source")},cache=always`, at("libfuse")] as const;
  const libfuse = stack.use(await mountPeer({ command: inC }, at("libfuse")));
  const inJavaScript = fuseNative(scratch, at("source-native"), at("fuse-native"));
  const native = inJavaScript && stack.use(await mountPeer(inJavaScript, at("fuse-native")));
  const device = stack.use(simulatedDevice("16Gi"));
  const mounted = stack.use(await mountDevice(device.url));

  const kept = stack.move();
  return {
    measure,
    contend,
    sources: at("sources"),
    scratch,
    peers: [
      { name: "famfs", directory: mounted.directory, pid: mounted.server.child.pid },
      { name: "libfuse", directory: at("libfuse"), pid: libfuse.pid },
      ...(native === undefined
        ? []
        : [{ name: "fuse-native" as const, directory: at("fuse-native"), pid: native.pid }]),
      { name: "tmpfs", directory: at("tmpfs"), pid: undefined },
    ],
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}
