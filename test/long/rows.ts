/** The property tests that `npm run test:long` runs for long, and how many cases of each. */
export interface Row {
  readonly what: "media" | "kernel" | "calls";
  readonly file: string;
  readonly test: string;
  readonly cases: number;
  /** Of one process, which takes about a minute for them. */
  readonly chunk: number;
}

const FORMAT = "src/format/hostile.prop.test.ts";

export const ROWS: readonly Row[] = [
  { what: "media", file: FORMAT, test: "no decoder throws on any bytes", cases: 2_000_000, chunk: 400_000 },
  {
    what: "media",
    file: FORMAT,
    test: "structures with any content behind a right crc are refused or read, never thrown at",
    cases: 1_000_000,
    chunk: 200_000,
  },
  {
    what: "media",
    file: FORMAT,
    test: "fsck survives any entries with right crcs, and what it accepts lies inside the region and overlaps nothing",
    cases: 100_000,
    chunk: 10_000,
  },
  { what: "media", file: FORMAT, test: "fsck survives a damaged image", cases: 100_000, chunk: 20_000 },
  {
    what: "media",
    file: "src/format/entries.prop.test.ts",
    test: "every entry decodes to what was encoded, and nothing else passes its check",
    cases: 500_000,
    chunk: 250_000,
  },
  {
    what: "media",
    file: "src/format/sealed-tree.test.ts",
    test: "whatever the entries: a tree, no space twice, and the changes tell all of it",
    cases: 200_000,
    chunk: 50_000,
  },
  {
    what: "media",
    file: "src/media/hostile.prop.test.ts",
    test: "whatever the memory holds, a volume opens, replays and is taken over, or says why not",
    cases: 100_000,
    chunk: 20_000,
  },
  {
    what: "kernel",
    file: "src/fuse/request.prop.test.ts",
    test: "parsing never throws and never reads beyond the request",
    cases: 2_500_000,
    chunk: 250_000,
  },
  {
    what: "kernel",
    file: "src/fuse/request.prop.test.ts",
    test: "whatever arrives, each request gets at most one well-formed answer and the session goes on",
    cases: 300_000,
    chunk: 50_000,
  },
  {
    what: "kernel",
    file: "src/fuse/data-path.prop.test.ts",
    test: "whatever the request says, it is answered once and stays inside the file's memory",
    cases: 3_000_000,
    chunk: 500_000,
  },
  {
    what: "kernel",
    file: "src/tree/volume-tree.prop.test.ts",
    test: "any sequence of operations does what POSIX with famfs's rule says, and a second mount shows the same",
    cases: 50_000,
    chunk: 10_000,
  },
  {
    what: "kernel",
    file: "src/tree/volume-tree.prop.test.ts",
    test: "a crash at any point leaves a consistent log, and the next mount has all the space but what is in it",
    cases: 50_000,
    chunk: 10_000,
  },
  {
    what: "calls",
    file: "src/controller/hostile-requests.prop.test.ts",
    test: "whatever is asked, the controller answers clearly and goes on",
    cases: 100_000,
    chunk: 10_000,
  },
];
