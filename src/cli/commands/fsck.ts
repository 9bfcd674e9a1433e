import type { Command } from "commander";
import { formatSize } from "../../base/index.ts";
import type { Finding, FsckReport } from "../../format/index.ts";
import { EXIT } from "../exit-code.ts";
import { globals } from "../globals.ts";
import { print, printJson, showName, table } from "../output.ts";
import { readVolume } from "../read-volume.ts";
import { openTarget, type Target } from "../target.ts";

export function registerFsckCommand(program: Command): void {
  program
    .command("fsck")
    .description(
      "Check a file system: superblock, log, every entry, and that no space is claimed twice. Changes nothing.",
    )
    .argument("<device>", "see famfs-csi --help")
    .option("--volume <id>", "which volume of a managed device")
    .addHelpText(
      "after",
      `
Exit code 0: nothing found; 1: findings. It may run while the file system is mounted: a file that is being sealed at
that moment is in the log or not, never half. --output json prints superblock, log and every entry as they are.

  famfs-csi fsck /dev/dax0.0
  famfs-csi --output json fsck --volume pvc-1234 'file:///dev/shm/pool0' | jq .findings`,
    )
    .action(async (name: string, options: { volume?: string }, command: Command) => {
      await using target = await openTarget(name, { volume: options.volume, writable: false });
      const report = await readVolume(target);
      if (globals(command).output === "json") {
        const { superblock, log, entries, findings, omittedFindings } = report;
        printJson({ superblock, log, entries, findings, ...(omittedFindings > 0 ? { omittedFindings } : {}) });
      } else {
        printReport(target, report);
      }
      if (report.findings.length > 0) process.exitCode = EXIT.negative;
    });
}

function printReport({ device, region }: Target, { summary, findings, omittedFindings }: FsckReport): void {
  print(`${device.path} [${region.offset}, ${region.offset + region.length})`);
  if (summary !== undefined) {
    const facts: [string, string][] = [
      ["files", String(summary.files)],
      ["directories", String(summary.directories)],
      ["log entries", `${summary.logEntries} of ${summary.logCapacity}`],
      ["capacity", formatSize(summary.capacityBytes)],
      ["in files", formatSize(summary.fileBytes)],
      ["allocated", formatSize(summary.allocatedBytes)],
      ["free", formatSize(summary.freeBytes)],
    ];
    for (const [title, value] of facts) print(`  ${title.padEnd(12)} ${value}`);
  }
  if (findings.length === 0) {
    print("  nothing found");
    return;
  }
  const count = findings.length + omittedFindings;
  print(
    `  ${count} finding${count === 1 ? "" : "s"}${omittedFindings > 0 ? `, the first ${findings.length} are` : ""}:`,
  );
  print(
    table<Finding>(
      [
        { title: "  CODE", value: (finding) => `  ${finding.code}` },
        { title: "WHERE", value: place },
        { title: "WHAT", value: (finding) => showName(finding.message) },
      ],
      findings,
    ),
  );
}

function place({ index, offset }: Finding): string {
  if (index !== undefined) return `entry ${index}`;
  return offset === undefined ? "" : `offset ${offset}`;
}
