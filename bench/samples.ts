/** What was measured, how much it scattered, and whether an earlier run was better. */

/** Where samples of one figure lie. */
export interface Spread {
  readonly min: number;
  readonly median: number;
  readonly max: number;
}

export const PEERS = ["famfs", "libfuse", "fuse-native", "tmpfs"] as const;
export type PeerName = (typeof PEERS)[number];

/** One line of the table. */
export interface Result {
  readonly row: string;
  readonly unit: string;
  readonly better: "more" | "less";
  readonly values: Partial<Record<PeerName, Spread>>;
  /** famfs by libfuse, round by round: what the machine does besides hits both alike. */
  readonly ratio?: Spread;
  /** Microseconds of processor time that the server took for one of the row's operations. */
  readonly serverMicroseconds?: Partial<Record<PeerName, number>>;
  readonly aim: string;
  readonly there: boolean;
}

/** The file of `--output json`. */
export interface Report {
  readonly machine: string;
  readonly rounds: number;
  readonly results: readonly Result[];
}

export function percentile(samples: readonly number[], share: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

export function spreadOf(samples: readonly number[]): Spread {
  return { min: percentile(samples, 0), median: percentile(samples, 0.5), max: percentile(samples, 1) };
}

/** A row without a peer, where less is better and the aim is a number of its own; none: the figure is only told. */
export function limited(row: string, unit: string, samples: readonly number[], limit?: number): Result {
  const famfs = spreadOf(samples);
  const there = limit === undefined || famfs.median <= limit;
  return { row, unit, better: "less", values: { famfs }, aim: limit === undefined ? "" : `<= ${limit} ${unit}`, there };
}

function format(value: number): string {
  if (value >= 100) return Math.round(value).toLocaleString("en");
  return value.toFixed(value >= 10 ? 1 : 2);
}

/** Half of what lies between the least and the most, in percent of the median. */
function scatter({ min, median, max }: Spread): string {
  return `${median === 0 ? 0 : Math.round((50 * (max - min)) / median)}%`;
}

/** The table for people. Columns of peers that were not measured are left out. */
export function table({ machine, rounds, results }: Report): string {
  const peers = PEERS.filter((peer) => results.some(({ values }) => values[peer] !== undefined));
  const cell = (value: number | undefined) => (value === undefined ? "-" : format(value)).padStart(11);
  const line = ({ row, unit, values, ratio, serverMicroseconds, aim, there }: Result) => {
    const { famfs, tmpfs } = values;
    return [
      row.padEnd(44),
      unit.padEnd(10),
      ...peers.map((peer) => cell(values[peer]?.median)),
      (famfs === undefined ? "-" : scatter(famfs)).padStart(6),
      cell(ratio?.median),
      cell(famfs && tmpfs && famfs.median / tmpfs.median),
      cell(serverMicroseconds?.famfs),
      cell(serverMicroseconds?.libfuse),
      ` ${aim.padEnd(27)} ${there ? "yes" : "not yet"}`,
    ].join(" ");
  };
  const heads = ["/libfuse", "/tmpfs", "us famfs", "us libfuse"];
  return [
    `medians of ${rounds} rounds on ${machine}`,
    "",
    [
      "".padEnd(55),
      ...peers.map((peer) => peer.padStart(11)),
      "+-".padStart(6),
      ...heads.map((head) => head.padStart(11)),
      ` ${"aim".padEnd(27)} there`,
    ].join(" "),
    ...results.map(line),
    "",
  ].join("\n");
}

/**
 * One line for each row that both runs have: better or worse only where the samples of the two runs do not overlap.
 * Where there is a peer the ratios to it are compared, because the runs may be of different days.
 */
export function comparison(before: Report, after: Report): string {
  const lines = after.results.flatMap((now) => {
    const then = before.results.find(({ row }) => row === now.row);
    const byRatio = then?.ratio !== undefined && now.ratio !== undefined;
    const [a, b] = byRatio ? [then.ratio, now.ratio] : [then?.values.famfs, now.values.famfs];
    if (a === undefined || b === undefined) return [];
    const rises = b.min > a.max;
    const falls = b.max < a.min;
    const verdict = !rises && !falls ? "" : rises === (now.better === "more") ? "better" : "WORSE";
    const unit = byRatio ? "x libfuse" : now.unit;
    const show = (spread: Spread) => `${format(spread.median)} (${format(spread.min)} to ${format(spread.max)})`;
    return [`${now.row.padEnd(44)} ${unit.padEnd(10)} ${show(a).padStart(30)} ${show(b).padStart(30)}  ${verdict}`];
  });
  const head = `${"".padEnd(55)} ${"before".padStart(30)} ${"now".padStart(30)}`;
  return [head, ...lines, ""].join("\n");
}
