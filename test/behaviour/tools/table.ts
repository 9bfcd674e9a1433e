/**
 * The tool matrix as the Markdown of docs/tools.md. `node test/behaviour/tools/table.ts --write` brings it up to date.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { GROUPS } from "./cases/index.ts";
import { type ToolCase, WORKS } from "./tool-case.ts";

const file = fileURLToPath(new URL("../../../docs/tools.md", import.meta.url));

const INTRODUCTION = `# What common programs do on a famfs volume

Every row is run by \`npm test\` on a real mount, checks the bytes and not only exit codes, and is run again after the
files were sealed where that makes a difference. _works_ means what it means on any Linux file system; an errno is what
the one step that famfs does not allow answers.

This file is generated: \`node test/behaviour/tools/table.ts --write\`; a test fails when it is stale. The cases are in
\`test/behaviour/tools/cases\`.
`;

const escaped = (text: string) => text.replaceAll("|", "\\|");

/** A Markdown table with its columns padded, as the formatter wants it. */
function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]) => `| ${row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(" | ")} |`;
  const [head = [], ...body] = rows;
  return [line(head), line(widths.map((width) => "-".repeat(width))), ...body.map(line)].join("\n");
}

const row = (one: ToolCase) => [escaped(one.name), one.outcome ?? WORKS, escaped(one.note ?? "")];

export function renderTable(): string {
  const groups = GROUPS.map(
    ({ title, cases }) => `\n## ${title}\n\n${table([["what", "outcome", "remark"], ...cases.map(row)])}\n`,
  );
  return INTRODUCTION + groups.join("");
}

export function readTable(): string {
  return readFileSync(file, "utf8");
}

if (import.meta.main && process.argv[2] === "--write") writeFileSync(file, renderTable());
