/** Facts on standard output (tables for people, JSON for programs); progress on standard error. */

export type OutputFormat = "text" | "json";

export interface Column<Row> {
  readonly title: string;
  readonly align?: "right";
  readonly value: (row: Row) => string | number;
}

/** Lines of a table whose columns are as wide as their widest cell, two spaces apart. */
export function table<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const cells = [columns.map((column) => column.title), ...rows.map((row) => columns.map((c) => String(c.value(row))))];
  const widths = columns.map((_, i) => Math.max(...cells.map((line) => displayWidth(line[i] ?? ""))));
  return cells
    .map((line) =>
      line
        .map((cell, i) => {
          const fill = " ".repeat((widths[i] ?? 0) - displayWidth(cell));
          return columns[i]?.align === "right" ? fill + cell : cell + fill;
        })
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

const graphemes = new Intl.Segmenter();

function displayWidth(text: string): number {
  return [...graphemes.segment(text)].length;
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** BigInts become decimal strings: a program never gets a rounded number. */
export function printJson(value: unknown): void {
  print(JSON.stringify(value, (_, item: unknown) => (typeof item === "bigint" ? item.toString() : item), 2));
}

/**
 * A name or text from media, safe to show on a terminal: the bytes as UTF-8 where they are, control characters and
 * broken sequences escaped.
 */
export function showName(binary: string): string {
  const text = Buffer.from(binary, "latin1").toString("utf8");
  return text.replace(/[\p{Cc}\ufffd\\]/gu, (char) =>
    char === "\\" ? "\\\\" : `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** One line that is rewritten on a terminal and printed at most once a second elsewhere. */
export class Progress implements Disposable {
  readonly #what: string;
  #printedAt = 0;
  #open = false;

  constructor(what: string) {
    this.#what = what;
  }

  update(done: number, total: number): void {
    const now = Date.now();
    const last = done >= total;
    if (!last && now - this.#printedAt < (process.stderr.isTTY ? 100 : 1000)) return;
    this.#printedAt = now;
    const percent = total === 0 ? 100 : Math.floor((done / total) * 100);
    if (process.stderr.isTTY) {
      process.stderr.write(`\r${this.#what}: ${percent} %`);
      this.#open = true;
    } else if (!last) {
      process.stderr.write(`${this.#what}: ${percent} %\n`);
    }
  }

  [Symbol.dispose](): void {
    if (this.#open) process.stderr.write("\r\x1b[K");
    this.#open = false;
  }
}
