import { access, constants } from "node:fs/promises";
import { tmpdir } from "node:os";
import type { Command } from "commander";
import { GIB, MIB, messageOf, roundUp } from "../../base/index.ts";
import { demoFiles } from "../demo/files.ts";
import { memoryMap } from "../demo/memory-map.ts";
import { type DemoResult, runDemo } from "../demo/run.ts";
import { type Stack, startStack } from "../demo/stack.ts";
import { Story } from "../demo/story.ts";
import { EXIT } from "../exit-code.ts";
import { globals } from "../globals.ts";
import { print, printJson } from "../output.ts";
import { enterNamespaceIfNeeded, inOwnNamespace } from "../rootless.ts";
import { stopSignal, untilAborted } from "../signals.ts";

export function registerDemoCommand(program: Command): void {
  program
    .command("demo")
    .description("Two nodes share a volume in simulated memory, on this machine, with real CSI calls and real mounts.")
    .argument("[file...]", "files to share (default: generated ones)")
    .option("--check", "exit with the verdict instead of staying up")
    .addHelpText(
      "after",
      `
A file stands for the shared memory; a controller and two nodes run as they would in a cluster, each on its own socket.
Your files are written on node-a and read on node-b, what must be refused is tried, and the writer moves. Nothing is
left behind. Without root everything happens in a user namespace of its own.

  famfs-csi demo model.safetensors    share a file of yours, then stay up to look around (Ctrl-C ends)
  famfs-csi demo --check              exit code 0 if everything went as it must, 1 if not`,
    )
    .action(async (paths: string[], options: { check?: boolean }, command: Command) => {
      const files = await demoFiles(paths);
      await enterNamespaceIfNeeded();
      const { output, logger } = globals(command, "error"); // refusals are part of the story
      const stopped = stopSignal();
      const story = new Story(output === "text");
      const bytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
      await using stack = await story.step(
        "start a controller and two nodes over one simulated device",
        async () =>
          startStack({ poolBytes: roundUp(2 * bytes + GIB, 2 * MIB), parent: await memoryDirectory(), logger }),
        ({ devicePath }) => devicePath,
      );
      const result = await tell(stack, story, () => runDemo(stack, files, story));
      if (output === "json") {
        printJson({ ok: story.ok, ...(result === undefined ? {} : { files: result.hashes }), steps: story.steps });
      }
      if (!story.ok) process.exitCode = EXIT.negative;
      if (options.check === true || result === undefined) return;
      if (output === "text") lookAround(result);
      await untilAborted(stopped);
    });

  async function tell(stack: Stack, story: Story, demo: () => Promise<DemoResult>): Promise<DemoResult | undefined> {
    try {
      const result = await demo();
      story.heading("The memory now");
      story.note(await memoryMap(stack.devicePath));
      story.heading(
        story.ok ? "Everything went as it must." : "Something did not go as it must; see the lines with ✗.",
      );
      story.note(SHARED);
      return result;
    } catch (error) {
      story.heading(`The demo stopped: ${messageOf(error)}`);
      return undefined;
    }
  }
}

const SHARED = `
What is shared here: both nodes read the same bytes of the same memory; there is one copy in the pool. On this portable
path each node's kernel also caches the pages it reads, and a mapping (mmap) of a file that both nodes write is not
coherent between them.`;

function lookAround({ directories: { a, b } }: DemoResult): void {
  const enter = inOwnNamespace(process.env)
    ? ` (from another terminal: nsenter -t ${process.pid} -U -m --preserve-credentials)`
    : "";
  print(`
Look around${enter}:
  node-a reads   ${a}
  node-b writes  ${b}
Ctrl-C ends the demo and removes everything.`);
}

/** Memory where there is a file system of it. */
async function memoryDirectory(): Promise<string> {
  try {
    await access("/dev/shm", constants.W_OK);
    return "/dev/shm";
  } catch {
    return tmpdir();
  }
}
