/**
 * The way of one CREATE through the source: `node scripts/setup.mjs -- node scripts/walk.ts` sends one to a session
 * over a real volume, steps through it with V8's debugger, and prints each file when the way enters it.
 */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { Session } from "node:inspector";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { isMainThread, parentPort, Worker } from "node:worker_threads";
import type { Operations } from "../src/fuse/index.ts";
import type { FileMaps } from "../src/tree/ports.ts";
import type { VolumeTree } from "../src/tree/volume-tree.ts";

const TOP = join(dirname(fileURLToPath(import.meta.url)), "..");

/** A call from one file of src into another; src/base is taken for known, as Node is. */
interface Call {
  readonly from: string;
  readonly to: string;
  /** The function that was entered. */
  readonly what: string;
  readonly depth: number;
}

export interface Walk {
  readonly calls: readonly Call[];
  /** In the order in which they are entered first. */
  readonly files: readonly string[];
  /** Calls into a file that is built on the one that calls: through a function or an object that it was handed. */
  readonly climbs: readonly Call[];
}

/** What the stepping thread looks for. */
function walkBegins(): void {}
function walkEnds(): void {}

export async function walk(): Promise<Walk> {
  const { sendCreate, close } = await volumeWithOneFile();
  const tracer = new Worker(fileURLToPath(import.meta.url), { execArgv: ["--disable-warning=ExperimentalWarning"] });
  try {
    await once(tracer, "message");
    const traced = once(tracer, "message");
    walkBegins();
    sendCreate();
    walkEnds();
    const [calls] = (await traced) as [Call[]];
    const files = new Set<string>();
    for (const { to } of calls) files.add(to);
    const climbs = new Map<string, Call>();
    for (const call of calls) {
      const { from, to } = call;
      if (from !== "" && !reaches(from, to) && reaches(to, from)) climbs.set(`${from} ${to}`, call);
    }
    return { calls, files: [...files], climbs: [...climbs.values()] };
  } finally {
    await tracer.terminate();
    await close();
  }
}

/** A session over a simulated device on which this process writes already, and a CREATE for it. */
async function volumeWithOneFile() {
  const { FakeKernel } = await import("../src/fuse/testing/fake-kernel.ts");
  const { CreateIn } = await import("../src/fuse/wire.ts");
  const { silentLogger } = await import("../src/base/index.ts");
  const { alwaysMine, openVolumeTree } = await import("../src/tree/index.ts");
  const { simulatedVolume } = await import("../test/support/simulated-volume.ts");
  const stack = new AsyncDisposableStack();
  const volume = stack.use(await simulatedVolume());
  let tree: VolumeTree | undefined;
  // The tree is made with the session's file maps.
  const late = new Proxy({} as Operations, {
    get: (_, name) => (tree?.[name as keyof VolumeTree] as (() => void) | undefined)?.bind(tree),
  });
  const kernel = new FakeKernel(() => late);
  tree = stack.use(
    await openVolumeTree({
      media: await volume.open(),
      node: { nodeId: "walk", bootId: "boot", slot: 0 },
      terms: alwaysMine,
      maps: kernel.fileMaps as FileMaps,
      exclusive: () => true,
      logger: silentLogger,
    }),
  );
  kernel.init();
  const fields = { flags: 1, mode: 0o100644, umask: 0, open_flags: 0 };
  const first = kernel.send("CREATE", 1, CreateIn.encode(fields), "first");
  while (!kernel.replies.has(first)) await new Promise(setImmediate);
  const sendCreate = () => {
    const errno = kernel.replies.get(kernel.send("CREATE", 1, CreateIn.encode(fields), "second"))?.errno;
    if (errno !== 0) throw new Error(`the CREATE was answered with ${errno}`);
  };
  return { sendCreate, close: () => stack.disposeAsync() };
}

/** Whether `from` imports `to`, directly or through others, other than for its types. */
function reaches(from: string, to: string, seen = new Set<string>()): boolean {
  if (seen.has(from)) return false;
  seen.add(from);
  return importsOf(from).some((file) => file === to || reaches(file, to, seen));
}

const imported = new Map<string, readonly string[]>();

function importsOf(file: string): readonly string[] {
  const known = imported.get(file);
  if (known !== undefined) return known;
  const found: string[] = [];
  const source = readFileSync(join(TOP, file), "utf8");
  for (const [, what = "", path = ""] of source.matchAll(/^(?:import|export) ([^;]*?)from "(\.[^"]+)";/gm)) {
    const onlyTypes = what.startsWith("type ") || /^\{\s*(type \w+,?\s*)+\}/.test(what);
    if (!onlyTypes) found.push(relative(TOP, join(TOP, dirname(file), path)));
  }
  imported.set(file, found);
  return found;
}

/** The other thread: steps through what the main one does between `walkBegins` and `walkEnds`. */
function trace(): void {
  parentPort?.on("message", () => {}); // stays alive
  const session = new Session();
  session.connectToMainThread();
  const urls = new Map<string, string>();
  const calls: Call[] = [];
  let begun = false;
  let before = 0;
  session.on("Debugger.scriptParsed", ({ params }) => urls.set(params.scriptId, params.url));
  session.on("Debugger.paused", ({ params: { callFrames } }) => {
    const names = callFrames.map(({ functionName }) => functionName);
    if (names[0] === "walkEnds") {
      session.post("Debugger.disable");
      parentPort?.postMessage(calls);
      return;
    }
    const start = names.indexOf("sendCreate");
    begun ||= names[0] === "walkBegins";
    if (begun && start >= 0) {
      // Outermost first; what Node does in between is none of ours.
      const stack = callFrames
        .slice(0, start)
        .reverse()
        .map(({ location, functionName }) => ({ file: fileOf(urls.get(location.scriptId)), functionName }))
        .filter(({ file }) => file.startsWith("src/") && !/\/testing\/|^src\/base\//.test(file));
      const [from, to] = stack.slice(-2);
      if (to !== undefined && from?.file !== to.file && stack.length > before) {
        calls.push({ from: from?.file ?? "", to: to.file, what: to.functionName, depth: stack.length });
      }
      before = stack.length;
    }
    session.post("Debugger.stepInto");
  });
  session.post("Debugger.enable", () => {
    session.post("Debugger.setBlackboxPatterns", { patterns: ["^node:", "/node_modules/"] });
    session.post("Debugger.pause");
    parentPort?.postMessage("ready");
  });
}

function fileOf(url = ""): string {
  return url.startsWith("file:") ? relative(TOP, fileURLToPath(url)) : url;
}

if (!isMainThread) trace();
else if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { calls, files, climbs } = await walk();
  const seen = new Set<string>();
  const up = new Set(climbs.map(({ from, to }) => `${from} ${to}`));
  for (const call of calls) {
    const mark = up.has(`${call.from} ${call.to}`) ? " up " : seen.has(call.to) ? "    " : " new";
    seen.add(call.to);
    console.log(`${mark} ${" ".repeat(call.depth)}${call.to} ${call.what}`);
  }
  console.log(`${files.length} files of src, ${climbs.length} climbs`);
}
