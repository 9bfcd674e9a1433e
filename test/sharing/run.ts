/** One run: nodes, their clients, faults, a last look from every node, and fsck. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, fsyncSync, mkdirSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { messageOf } from "../../src/base/index.ts";
import { type NodeProcess, Nodes } from "../support/nodes.ts";
import { runProgram } from "../support/program.ts";
import { type ClientSettings, DIRECTORIES } from "./client.ts";
import { driveFaults } from "./fault-driver.ts";
import { type Fault, now, type Operation } from "./history.ts";
import type { Run } from "./outcome.ts";
import { Random } from "./random.ts";

const CLIENT = fileURLToPath(new URL("client.ts", import.meta.url));
const MODE = "MULTI_NODE_MULTI_WRITER";
const CLIENTS_PER_NODE = 2;
const UNIT = 2 * 2 ** 20;
/** All nodes together; space does not come back while several have the volume. */
const MOST_FILES = 8000;
/** The first part of a run is without faults, so that errors without any are seen. */
const CALM_SHARE = 0.35;
/** A client may wait for a node that was stopped, or for the right to write. */
const STRAGGLE_MS = 120_000;
const LOOK_MS = 120_000;

export interface RunSettings {
  readonly nodes: number;
  readonly seconds: number;
  readonly seed: number;
  readonly faults: boolean;
  /** The caches of their hosts do not agree. */
  readonly incoherent?: boolean;
  /** A file for the whole history as JSON, and beside it what the nodes logged. */
  readonly keep?: string | undefined;
  /** How far it is. */
  readonly tell: (line: string) => void;
}

export async function runNodes({
  nodes: count,
  seconds,
  seed,
  faults: faulty,
  incoherent = false,
  keep,
  tell: progress,
}: RunSettings): Promise<Run> {
  const random = new Random(seed * 31 + count);
  const troubles: string[] = [];
  const operations: Operation[] = [];
  let faults: Fault[] = [];
  await using nodes = await Nodes.open(`${(MOST_FILES + 200) * 2 + 300}Mi`, { incoherent });
  const members: NodeProcess[] = [];
  for (const name of ["a", "b", "c"].slice(0, count)) members.push(await nodes.node(name));
  const volumeId = await nodes.create("shared", MOST_FILES * UNIT, MODE, { logLength: "128Mi" });
  for (const node of members) {
    await nodes.attach(volumeId, node, MODE);
    await node.mount(volumeId, MODE);
  }
  const [first] = members;
  if (first !== undefined) prepare(first.target(volumeId));

  const started = now();
  const until = started + seconds * 1000;
  const filesPerSecond = (MOST_FILES - 200) / seconds / (count * CLIENTS_PER_NODE);
  const clients = members.flatMap((node) =>
    Array.from({ length: CLIENTS_PER_NODE }, (_, at) => {
      const client = `${node.nodeId.slice(0, 1)}${at + 1}`;
      const target = node.target(volumeId);
      const fields = { client, node: node.nodeId, target, until, filesPerSecond: Math.min(filesPerSecond, 8) };
      return startClient({ ...fields, seed: random.below(2 ** 31), look: false }, operations);
    }),
  );
  const tell = (line: string) => progress(`${((now() - started) / 1000).toFixed(1)} s of ${seconds}: ${line}`);
  const calmMs = faulty ? seconds * 1000 * CALM_SHARE : 0;
  try {
    if (faulty) {
      await delay(calmMs);
      const settings = { nodes: members, volumeId, mode: MODE, random, until, tell } as const;
      faults = await driveFaults(settings);
    }
    tell("waiting for the clients");
    for (const client of clients) troubles.push(...(await client.finished(until + STRAGGLE_MS)));
    tell("the last look");
    for (const node of members) {
      const settings = { client: `${node.nodeId.slice(0, 1)}9`, node: node.nodeId, target: node.target(volumeId) };
      const look = { ...settings, seed, until: now() + LOOK_MS, filesPerSecond: 0, look: true };
      troubles.push(...(await startClient(look, operations).finished(now() + LOOK_MS)));
    }
    for (const node of members) await node.unmount(volumeId);
    troubles.push(...(await fsck(nodes.device.url, volumeId)));
  } catch (error) {
    troubles.push(messageOf(error));
  } finally {
    for (const client of clients) client.kill();
  }
  for (const node of members) troubles.push(...defectsOf(node));
  if (keep !== undefined) {
    writeFileSync(`${keep}.${count}`, JSON.stringify({ operations, faults }));
    for (const { nodeId, program } of members) writeFileSync(`${keep}.${count}.${nodeId.slice(0, 1)}`, program.said());
  }
  return { nodes: count, seed, seconds, history: { operations, faults }, troubles };
}

/** The directories that all clients work in. */
function prepare(root: string): void {
  for (const directory of DIRECTORIES) mkdirSync(join(root, directory));
  const fd = openSync(root, "r");
  fsyncSync(fd);
  closeSync(fd);
}

function startClient(settings: ClientSettings, operations: Operation[]) {
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", CLIENT, JSON.stringify(settings)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = once(child, "exit") as Promise<[number | null]>;
  const lines = createInterface({ input: child.stdout });
  lines.on("line", (line) => operations.push(JSON.parse(line) as Operation));
  const read = once(lines, "close");
  const name = `client ${settings.client}`;
  return {
    /** The fault of it. */
    async finished(deadline: number): Promise<string[]> {
      const clock = new AbortController();
      const late = delay(Math.max(0, deadline - now()), undefined, { signal: clock.signal }).catch(() => undefined);
      const end = await Promise.race([ended, late]);
      clock.abort();
      if (end === undefined) {
        child.kill("SIGKILL");
        return [`${name} hangs in a call`];
      }
      await read;
      return end[0] === 0 ? [] : [`${name} ended with ${end[0]}`];
    },
    kill: () => void child.kill("SIGKILL"),
  };
}

async function fsck(device: string, volumeId: string): Promise<string[]> {
  const { status, stdout, stderr } = await runProgram("fsck", device, "--volume", volumeId);
  return status === 0 ? [] : [`fsck: ${stdout}${stderr}`];
}

/** Lines of a node's log that say that something went wrong which nobody thought of. */
function defectsOf({ nodeId, program }: NodeProcess): string[] {
  const lines = program.said().split("\n");
  const defects = lines.filter(
    (line) => /"level":(50|60)|\b(ERROR|FATAL)\b/.test(line) && /INTERNAL|TypeError/.test(line) && !/EBUSY/.test(line),
  );
  return defects.slice(0, 1).map((line) => `${nodeId} logged ${defects.length} defects, the first: ${line}`);
}
