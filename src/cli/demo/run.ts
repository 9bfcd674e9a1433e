import { mkdir, open, readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { formatSize, MIB } from "../../base/index.ts";
import { type DemoFile, sha256 } from "./files.ts";
import { Orchestrator } from "./orchestrator.ts";
import type { Stack } from "./stack.ts";
import type { Story } from "./story.ts";
import { waitUntil } from "./wait.ts";

/** How long a file sealed on one node may take to be seen on the other before the demo calls it a failure. */
const SEEN_TIMEOUT_MS = 15_000;

export interface DemoResult {
  /** Where the two nodes' pods see the volume, for whoever wants to look around. */
  readonly directories: { readonly a: string; readonly b: string };
  readonly hashes: readonly { readonly name: string; readonly sizeBytes: number; readonly sha256: string }[];
  readonly volumeId: string;
}

/** The demo: claim, share, refuse, hand over. Each step stands on those before it. */
export async function runDemo(stack: Stack, files: readonly DemoFile[], story: Story): Promise<DemoResult> {
  const { a, b } = stack.nodes;
  const orchestrator = new Orchestrator(stack.controller);
  const mode = "MULTI_NODE_SINGLE_WRITER";
  const bytes = files.reduce((sum, file) => sum + Math.max(file.sizeBytes, 1) + 4 * MIB, 64 * MIB);

  story.heading("A claim becomes a volume");
  const volume = await story.step(
    "CreateVolume: a region is assigned, a node formats it",
    () => orchestrator.createVolume("demo", bytes, mode),
    ({ volumeId }) => `${volumeId}, ${formatSize(bytes)}`,
  );
  const onA = await story.step(
    `node ${a.nodeId}: publish as the writer`,
    () => orchestrator.attach(volume, a, { accessMode: mode, readonly: false }),
    (path) => path,
  );
  await story.refused(`node ${b.nodeId}: publish as a second writer`, ["FAILED_PRECONDITION"], () =>
    orchestrator.publish(volume, b, { accessMode: mode, readonly: false }),
  );
  const onB = await story.step(
    `node ${b.nodeId}: publish as a reader`,
    () => orchestrator.attach(volume, b, { accessMode: mode, readonly: true }),
    (path) => path,
  );

  story.heading(`Files written on ${a.nodeId} are read on ${b.nodeId}, from the same memory`);
  const hashes = [];
  for (const file of files) {
    hashes.push({ name: file.name, sizeBytes: file.sizeBytes, sha256: await share(file, onA, onB, story) });
  }

  story.heading("What must not be is refused");
  const [first] = files;
  const name = first?.name ?? "";
  await story.refused(`write on ${b.nodeId}, a reader`, ["EROFS"], () => openAndClose(join(onB, "new-file"), "w"));
  await story.refused("append to a sealed file", ["EPERM", "EFBIG"], () => append(join(onA, name)));
  await story.refused("truncate a sealed file", ["EPERM"], () => truncate(join(onA, name)));

  story.heading(`The writer moves from ${a.nodeId} to ${b.nodeId}`);
  const movedB = await story.step(
    `${a.nodeId} gives up the writer role, ${b.nodeId} takes it`,
    async () => {
      await orchestrator.detach(volume, b);
      await orchestrator.detach(volume, a);
      return orchestrator.attach(volume, b, { accessMode: mode, readonly: false });
    },
    (path) => path,
  );
  const movedA = await story.step(
    `node ${a.nodeId}: publish as a reader`,
    () => orchestrator.attach(volume, a, { accessMode: mode, readonly: true }),
    (path) => path,
  );
  await mkdir(join(movedB, "results"));
  const text = `written on node ${b.nodeId}\n`;
  await share(
    {
      name: "results/from-the-other-node",
      sizeBytes: text.length,
      writeTo: (target) => writeText(target, text),
    },
    movedB,
    movedA,
    story,
  );
  await story.refused(`write on ${a.nodeId}, now a reader`, ["EROFS"], () =>
    openAndClose(join(movedA, "new-file"), "w"),
  );
  const left = await readdir(movedA, { recursive: true });
  story.check(
    `${a.nodeId} still sees every file`,
    files.every((file) => left.includes(file.name)),
    `${left.length} names`,
  );
  return { directories: { a: movedA, b: movedB }, hashes, volumeId: volume.volumeId };
}

/** Writes a file on one node, waits until the other sees it, compares hashes. */
async function share(file: DemoFile, from: string, to: string, story: Story): Promise<string> {
  const [source, copy] = [join(from, file.name), join(to, file.name)];
  await story.step(
    `write ${file.name}`,
    () => file.writeTo(source),
    () => formatSize(file.sizeBytes),
  );
  await story.step(
    "  sealed, and seen on the other node",
    async () => {
      await syncDirectory(dirname(source));
      return waitUntil(() => exists(copy), SEEN_TIMEOUT_MS, `${copy} did not appear`);
    },
    () => "fsync of the directory sealed it; the other node replayed the log",
  );
  const written = await story.step(
    "  sha256 on the writer's node",
    () => sha256(source),
    (hash) => hash,
  );
  const read = await story.step(
    "  sha256 on the other node",
    () => sha256(copy),
    (hash) => hash,
  );
  story.check("  same bytes", written === read, written === read ? "equal" : `${written} is not ${read}`);
  return written;
}

async function exists(path: string): Promise<boolean> {
  try {
    await using _file = await open(path, "r");
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

/** Seals what was closed in it at once, instead of `sealDelay` later. */
async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, "r");
  await directory.sync();
}

async function openAndClose(path: string, flags: string): Promise<void> {
  await using _file = await open(path, flags);
}

async function append(path: string): Promise<void> {
  await using file = await open(path, "a");
  await file.write("x");
}

async function truncate(path: string): Promise<void> {
  await using file = await open(path, "r+");
  await file.truncate(1);
}

async function writeText(path: string, text: string): Promise<void> {
  await using file = await open(path, "wx");
  await file.writeFile(text);
}
