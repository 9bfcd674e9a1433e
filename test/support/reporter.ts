/**
 * What `node --test` prints in our runs: one line per test file, every failure in full, every skip with its reason.
 * With FAMFS_TEST_EACH one line per test instead, with what it says by `diagnostic`: where each takes long.
 * The counts go to the file named by FAMFS_TEST_COUNTS, where test/run.ts reads them.
 */
import { writeFileSync } from "node:fs";
import { relative } from "node:path";
import type { TestEvent } from "node:test/reporters";
import { inspect } from "node:util";

export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

interface FileCounts extends Counts {
  readonly skips: string[];
}

type TestReport = Extract<TestEvent, { type: "test:pass" | "test:fail" }>["data"];

const ESCAPE = process.stdout.isTTY || process.env["CI"] !== undefined ? "\u001b[" : "";
const colour = (code: number, text: string) => (ESCAPE === "" ? text : `${ESCAPE}${code}m${text}${ESCAPE}0m`);

/** The stack of the assertion rather than of node's wrapper around it. */
function explain(error: Error): string {
  const cause = error.cause instanceof Error ? error.cause : error;
  return inspect(cause, { colors: ESCAPE !== "", depth: 4 }).replaceAll(/^/gm, "    ");
}

function failedInside(error: Error): boolean {
  return "failureType" in error && error.failureType === "subtestsFailed";
}

function isSkipped({ skip }: TestReport): boolean {
  return skip !== undefined && skip !== false;
}

// biome-ignore lint/style/noDefaultExport: --test-reporter takes the default export.
export default async function* reporter(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const files = new Map<string, FileCounts>();
  const each = process.env["FAMFS_TEST_EACH"] !== undefined;
  let group = "";
  const line = (data: TestReport, word: string) => {
    const heading = data.file === group ? "" : `-- ${relative(process.cwd(), data.file ?? "?")}\n`;
    group = data.file ?? "";
    const seconds = (data.details.duration_ms / 1000).toFixed(1).padStart(6);
    return `${heading}${word} ${seconds} s  ${data.name}\n`;
  };
  const of = (file: string | undefined): FileCounts => {
    const name = file === undefined ? "?" : relative(process.cwd(), file);
    const counts = files.get(name) ?? { passed: 0, failed: 0, skipped: 0, skips: [] };
    files.set(name, counts);
    return counts;
  };
  const count = (data: TestReport, outcome: "passed" | "failed") => {
    const counts = of(data.file);
    if (!isSkipped(data)) counts[outcome]++;
    else {
      counts.skipped++;
      counts.skips.push(`${data.name}: ${data.skip === true ? "no reason given" : data.skip}`);
    }
  };

  for await (const event of source) {
    switch (event.type) {
      case "test:pass":
        if (event.data.details.type === "suite") break;
        count(event.data, "passed");
        if (each) yield line(event.data, isSkipped(event.data) ? colour(33, "skipped") : colour(32, "ok     "));
        break;
      case "test:diagnostic":
        if (each && event.data.file !== undefined) yield `${" ".repeat(18)}${event.data.message}\n`;
        break;
      case "test:fail":
        // A suite fails because of a test in it, which is reported by itself.
        if (event.data.details.type === "suite" && failedInside(event.data.details.error)) break;
        count(event.data, "failed");
        if (each) yield line(event.data, colour(31, "failed "));
        yield `${colour(31, "failed")} ${event.data.name} (${relative(process.cwd(), event.data.file ?? "")}:${event.data.line ?? 0})\n`;
        yield `${explain(event.data.details.error)}\n`;
        break;
      case "test:stdout":
      case "test:stderr":
        yield event.data.message;
        break;
      case "test:summary": {
        if (event.data.file === undefined) break;
        const name = relative(process.cwd(), event.data.file);
        const counts = of(event.data.file);
        const word = counts.failed > 0 ? colour(31, "failed") : colour(32, "ok    ");
        yield `${word} ${name}  ${counts.passed} passed${counts.failed > 0 ? `, ${counts.failed} failed` : ""} (${(event.data.duration_ms / 1000).toFixed(1)} s)\n`;
        for (const skip of counts.skips) yield `${colour(33, "skipped")} ${skip}\n`;
        break;
      }
    }
  }

  // Files that share a process end together and have no line of their own.
  if (each)
    for (const { skips } of files.values()) for (const skip of skips) yield `${colour(33, "skipped")} ${skip}\n`;
  const total: Counts = { passed: 0, failed: 0, skipped: 0 };
  for (const counts of files.values()) {
    total.passed += counts.passed;
    total.failed += counts.failed;
    total.skipped += counts.skipped;
  }
  const destination = process.env["FAMFS_TEST_COUNTS"];
  if (destination !== undefined) writeFileSync(destination, JSON.stringify(total));
}
