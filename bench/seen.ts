/** How long after a file has sealed on one node it is there on another: controller and two nodes as in the demo. */
import { access, open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { silentLogger } from "../src/base/index.ts";
import { Orchestrator } from "../src/cli/demo/orchestrator.ts";
import { startStack } from "../src/cli/demo/stack.ts";

const MIB = 2 ** 20;
const LIMIT_MS = 10_000;

async function seenAfter(path: string): Promise<number> {
  const started = performance.now();
  for (;;) {
    try {
      await access(path);
      return performance.now() - started;
    } catch {
      if (performance.now() - started > LIMIT_MS) throw new Error(`${path} is not there after ${LIMIT_MS} ms`);
      await setImmediate();
    }
  }
}

/** Milliseconds from the return of the fsync that seals to the first successful access on the other node. */
export async function measureSeen(scratch: string, rounds: number): Promise<number[]> {
  await using stack = await startStack({ poolBytes: 1024 * MIB, parent: scratch, logger: silentLogger });
  const orchestrator = new Orchestrator(stack.controller);
  const accessMode = "MULTI_NODE_MULTI_WRITER";
  const volume = await orchestrator.createVolume("bench", 256 * MIB, accessMode);
  const { a, b } = stack.nodes;
  const writer = await orchestrator.attach(volume, a, { accessMode, readonly: false });
  const reader = await orchestrator.attach(volume, b, { accessMode, readonly: true });
  const samples: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const name = `file-${round}`;
    // The reader has asked already, so that its kernel may remember that the name is not there.
    await access(join(reader, name)).catch(() => undefined);
    await writeFile(join(writer, name), "x".repeat(4096));
    const directory = await open(writer, "r");
    await directory.sync();
    samples.push(await seenAfter(join(reader, name)));
    await directory.close();
  }
  await orchestrator.detach(volume, b);
  await orchestrator.detach(volume, a);
  return samples;
}
