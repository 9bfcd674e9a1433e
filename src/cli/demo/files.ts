import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { open, stat } from "node:fs/promises";
import { basename } from "node:path";
import { pipeline } from "node:stream/promises";
import { FamfsError, fromSystemError, MIB } from "../../base/index.ts";

/** What the demo writes: a file of the user's, or a generated one. */
export interface DemoFile {
  readonly name: string;
  readonly sizeBytes: number;
  /** Writes the content to a new file at `target` and closes it. */
  readonly writeTo: (target: string) => Promise<void>;
}

const SAMPLES = [
  { name: "model.safetensors", sizeBytes: 64 * MIB, seed: 1 },
  { name: "tokenizer.json", sizeBytes: 2_345_678, seed: 2 },
  { name: "config.json", sizeBytes: 517, seed: 3 },
] as const;

/** The user's files; the samples when there are none. Each must be a regular file, and no two have one name. */
export async function demoFiles(paths: readonly string[]): Promise<DemoFile[]> {
  if (paths.length === 0) return SAMPLES.map(sample);
  const files = await Promise.all(paths.map(userFile));
  const names = new Set(files.map((file) => file.name));
  if (names.size < files.length) {
    throw new FamfsError(
      "INVALID_ARGUMENT",
      `two of the files have one name (${[...names].join(", ")}); give each once`,
    );
  }
  return files;
}

async function userFile(path: string): Promise<DemoFile> {
  const info = await stat(path).catch((error: unknown) => {
    throw fromSystemError(error, "stat", path);
  });
  if (!info.isFile()) throw new FamfsError("INVALID_ARGUMENT", `${path} is not a regular file`);
  return {
    name: basename(path),
    sizeBytes: info.size,
    writeTo: (target) =>
      pipeline(
        createReadStream(path, { highWaterMark: MIB }),
        createWriteStream(target, { flags: "wx", highWaterMark: MIB }),
      ),
  };
}

function sample({ name, sizeBytes, seed }: (typeof SAMPLES)[number]): DemoFile {
  return {
    name,
    sizeBytes,
    async writeTo(target) {
      await using file = await open(target, "wx");
      for (let at = 0; at < sizeBytes; at += MIB) {
        await file.writeFile(pseudoRandom(seed * 1_000_003 + at, Math.min(MIB, sizeBytes - at)));
      }
    },
  };
}

/** xorshift32: any stream that is not all alike will do, as long as two runs agree. */
function pseudoRandom(seed: number, length: number): Uint8Array {
  const words = new Uint32Array(Math.ceil(length / 4));
  let state = seed | 1;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return new Uint8Array(words.buffer, 0, length);
}

export async function sha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path, { highWaterMark: MIB }), hash);
  return hash.digest("hex");
}
