#!/usr/bin/env node
/** The program: `famfs-csi COMMAND`. The only place that reads the environment and decides the exit code. */
import { Command, CommanderError, Option } from "commander";
import { fromSystemError, isFamfsError, messageOf } from "../base/index.ts";
import { EXIT, exitCodeOf } from "./exit-code.ts";
import { LOG_LEVELS } from "./logging.ts";
import { printJson } from "./output.ts";
import { VERSION } from "./version.ts";

const program = new Command("famfs-csi")
  .description(
    "Kubernetes storage on shared memory: famfs volumes as a CSI driver, and tools for the devices below it.",
  )
  .version(VERSION)
  .addOption(new Option("--output <format>", "facts as text or JSON").choices(["text", "json"]).default("text"))
  .addOption(
    new Option("--log-level <level>", "lowest level of log lines on standard error (default: warn)")
      .choices([...LOG_LEVELS])
      .env("FAMFS_CSI_LOG_LEVEL"),
  )
  .showHelpAfterError("(famfs-csi --help, or famfs-csi COMMAND --help, tells more)")
  .configureHelp({ showGlobalOptions: true })
  .exitOverride()
  .addHelpText(
    "after",
    `
DEVICE is one of
  /dev/dax0.0                         a devdax device
  file:///dev/shm/pool0?size=4Gi      a simulated device: a file, made with that size if it is not there
  6b0ff7a2-…                          the UUID in a device's label

Try it on one machine, nothing but this checkout needed:
  famfs-csi demo                      two nodes share a volume in simulated memory
  famfs-csi mount 'file:///dev/shm/pool0?size=4Gi' /mnt -- sh
                                      a shell that sees a famfs volume at /mnt

Exit codes: 0 done, 1 a negative answer (findings), 64 usage, 65 damaged data, 66 no such thing, 69 not available here,
  70 a defect, 73 cannot create, 74 input/output error, 75 try again, 77 not permitted.`,
  );

/** In the order of `--help`. Loaded when asked for: `mount` need not carry gRPC, nor the controller a FUSE server. */
const COMMANDS: Readonly<Record<string, () => Promise<(program: Command) => void>>> = {
  demo: async () => (await import("./commands/demo.ts")).registerDemoCommand,
  controller: async () => (await import("./commands/controller.ts")).registerControllerCommand,
  node: async () => (await import("./commands/node.ts")).registerNodeCommand,
  standalone: async () => (await import("./commands/standalone.ts")).registerStandaloneCommand,
  uninstall: async () => (await import("./commands/uninstall.ts")).registerUninstallCommand,
  mkfs: async () => (await import("./commands/mkfs.ts")).registerMkfsCommand,
  fsck: async () => (await import("./commands/fsck.ts")).registerFsckCommand,
  ls: async () => (await import("./commands/ls.ts")).registerLsCommand,
  put: async () => (await import("./commands/put.ts")).registerPutCommand,
  mkdir: async () => (await import("./commands/mkdir.ts")).registerMkdirCommand,
  mount: async () => (await import("./commands/mount.ts")).registerMountCommand,
  device: async () => (await import("./commands/device.ts")).registerDeviceCommands,
};

/** The command that the words name, all of them where none is named. */
async function register(words: readonly string[]): Promise<void> {
  const named = words.find((word) => Object.hasOwn(COMMANDS, word));
  for (const [name, load] of Object.entries(COMMANDS)) {
    if (named === undefined || name === named) (await load())(program);
  }
}

/** commander's own errors are usage errors and have been printed; help and version are not errors. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  const code = exitCodeOf(error);
  if (program.opts()["output"] === "json") {
    printJson({ error: { code: isFamfsError(error) ? error.code : "INTERNAL", message: messageOf(error) } });
  }
  process.stderr.write(`famfs-csi: ${messageOf(error)}\n`);
  if (code === EXIT.internal && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  return code;
}

// The reader of our output may have seen enough (`| head`): that ends no mount and is no error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") process.exitCode = report(fromSystemError(error, "write", "standard output"));
});

try {
  await register(process.argv.slice(2));
  await program.parseAsync();
} catch (error) {
  process.exitCode = report(error);
}
