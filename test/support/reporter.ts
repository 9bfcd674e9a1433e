/**
 * What `node --test` prints in our runs: one line per test file, every failure in full, every skip with its reason.
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

// biome-ignore lint/style/noDefaultExport: --test-reporter takes the default export.
export default async function* reporter(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const files = new Map<string, FileCounts>();
  const of = (file: string | undefined): FileCounts => {
    const name = file === undefined ? "?" : relative(process.cwd(), file);
    const counts = files.get(name) ?? { passed: 0, failed: 0, skipped: 0, skips: [] };
    files.set(name, counts);
    return counts;
  };
  const count = (data: TestReport, outcome: "passed" | "failed") => {
    const counts = of(data.file);
    if (data.skip === undefined || data.skip === false) counts[outcome]++;
    else {
      counts.skipped++;
      counts.skips.push(`${data.name}: ${data.skip === true ? "no reason given" : data.skip}`);
    }
  };

  for await (const event of source) {
    switch (event.type) {
      case "test:pass":
        if (event.data.details.type !== "suite") count(event.data, "passed");
        break;
      case "test:fail":
        // A suite fails because of a test in it, which is reported by itself.
        if (event.data.details.type === "suite" && failedInside(event.data.details.error)) break;
        count(event.data, "failed");
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

  const total: Counts = { passed: 0, failed: 0, skipped: 0 };
  for (const counts of files.values()) {
    total.passed += counts.passed;
    total.failed += counts.failed;
    total.skipped += counts.skipped;
  }
  const destination = process.env["FAMFS_TEST_COUNTS"];
  if (destination !== undefined) writeFileSync(destination, JSON.stringify(total));
}
