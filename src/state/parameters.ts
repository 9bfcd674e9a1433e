import { FamfsError, GIB, MIB, parseSize } from "../base/index.ts";

/** How a volume behaves: its StorageClass parameters, checked and with defaults. */
export interface VolumeParameters {
  /** undefined: any pool that the volume's places reach. */
  readonly pool: string | undefined;
  /** "any": opening a sealed file for writing needs no grant; the applications see to coherency (design 6). */
  readonly dataWriters: "one" | "any";
  readonly writerTimeoutMs: number;
  readonly sealDelayMs: number;
  readonly replayIntervalMs: number;
  readonly stripe: { readonly buckets: number; readonly strips: number; readonly chunkBytes: number } | undefined;
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
  readonly logLengthBytes: number;
}

interface Parameter<T> {
  readonly parse: (text: string, name: string) => T;
  /** As a StorageClass would give it; none means optional without a value. */
  readonly default?: string;
  /** The accepted values, and what they do: the row of docs/parameters.md. */
  readonly accepts: string;
  readonly does: string;
}

const MAX_ID = 0xffff_fffe;

/** Every StorageClass parameter there is. */
export const PARAMETERS = {
  pool: {
    parse: (text, name) => match(text, name, /^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/, "a pool name"),
    accepts: "a pool name",
    does: "the pool to allocate from; without it, the pool with the best place among those the topology reaches",
  },
  dataWriters: {
    parse: (text, name) => choice(text, name, ["one", "any"] as const),
    default: "one",
    accepts: "`one`, `any`",
    does: "`any`: sealed files may be written in place by every node at once; the applications see to coherency",
  },
  writerTimeout: {
    parse: (text, name) => duration(text, name, 1, 600_000),
    default: "30s",
    accepts: "1ms to 10m",
    does: "how long an open for writing waits for the writer grant before EAGAIN",
  },
  sealDelay: {
    parse: (text, name) => duration(text, name, 0, 3_600_000),
    default: "1s",
    accepts: "0ms to 1h",
    does: "how long after its last close (or last change of size) a file is sealed",
  },
  replayInterval: {
    parse: (text, name) => duration(text, name, 1, 60_000),
    default: "1ms",
    accepts: "1ms to 1m",
    does: "how often the other nodes look for new files; less often by itself where caches do not agree and many volumes are idle",
  },
  "stripe.buckets": {
    parse: (text, name) => integer(text, name, 2, 64),
    accepts: "2 to 64",
    does: "stripe files over this many buckets, each of at least 1 GiB; wants all three `stripe.*`",
  },
  "stripe.strips": {
    parse: (text, name) => integer(text, name, 2, 15),
    accepts: "2 to 15, at most `stripe.buckets`",
    does: "strips of one file",
  },
  "stripe.chunkSize": {
    parse: (text, name) => powerOfTwo(text, name, 2 * MIB, GIB),
    accepts: "a power of two, 2Mi to 1Gi",
    does: "bytes in one strip before the next strip's turn",
  },
  uid: {
    parse: (text, name) => integer(text, name, 0, MAX_ID),
    default: "0",
    accepts: "a user id",
    does: "owner of the volume's root directory",
  },
  gid: {
    parse: (text, name) => integer(text, name, 0, MAX_ID),
    default: "0",
    accepts: "a group id",
    does:
      "group of the volume's root directory; under a pod's fsGroup all shows that group, which may do what the owner " +
      "may until a program on such a mount sets a mode: that one stays",
  },
  mode: {
    parse: (text, name) => Number.parseInt(match(text, name, /^[0-7]{3,4}$/, "an octal mode such as 0755"), 8),
    default: "0755",
    accepts: "an octal mode",
    does: "permissions of the volume's root directory",
  },
  logLength: {
    parse: (text, name) => powerOfTwo(text, name, 8 * MIB, GIB),
    default: "8Mi",
    accepts: "a power of two, 8Mi to 1Gi",
    does: "room for log entries: 8Mi holds 15,420, one for each file and each change of names",
  },
} as const satisfies Record<string, Parameter<unknown>>;

/** Given by the provisioner for people to read; accepted and not kept. */
const FOREIGN_PREFIX = "csi.storage.k8s.io/";

/**
 * Checks parameters as they come in a request. UNKNOWN_PARAMETER names the unknown one and the known ones;
 * INVALID_ARGUMENT says what a value should be. Answers those to keep with the volume.
 */
export function checkParameters(given: Readonly<Record<string, string>>): Record<string, string> {
  const kept: Record<string, string> = {};
  for (const [name, value] of Object.entries(given)) {
    if (name.startsWith(FOREIGN_PREFIX)) continue;
    if (!Object.hasOwn(PARAMETERS, name)) {
      const known = Object.keys(PARAMETERS).join(", ");
      throw new FamfsError("UNKNOWN_PARAMETER", `parameter "${name.slice(0, 128)}" is unknown; known: ${known}`);
    }
    kept[name] = value;
  }
  parseVolumeParameters(kept);
  return kept;
}

const CLAIM_NAMESPACE = `${FOREIGN_PREFIX}pvc/namespace`;
const CLAIM_NAME = `${FOREIGN_PREFIX}pvc/name`;

/** The claim that the provisioner names beside the parameters (`--extra-create-metadata`), if it does and can be. */
export function claimIn(given: Readonly<Record<string, string>>): { namespace: string; name: string } | undefined {
  const [namespace, name] = [given[CLAIM_NAMESPACE] ?? "", given[CLAIM_NAME] ?? ""];
  const isName = (text: string) => text.length <= 253 && /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/.test(text);
  return isName(namespace) && isName(name) ? { namespace, name } : undefined;
}

/** What the kept parameters say. Throws INVALID_ARGUMENT. */
export function parseVolumeParameters(kept: Readonly<Record<string, string>>): VolumeParameters {
  const text = (name: keyof typeof PARAMETERS): string | undefined => {
    const parameter: Parameter<unknown> = PARAMETERS[name];
    return (Object.hasOwn(kept, name) ? kept[name] : undefined) ?? parameter.default;
  };
  const read = <Name extends keyof typeof PARAMETERS>(name: Name): ReturnType<(typeof PARAMETERS)[Name]["parse"]> => {
    const parameter: Parameter<unknown> = PARAMETERS[name];
    return parameter.parse(text(name) ?? "", name) as ReturnType<(typeof PARAMETERS)[Name]["parse"]>;
  };
  return {
    pool: text("pool") === undefined ? undefined : read("pool"),
    dataWriters: read("dataWriters"),
    writerTimeoutMs: read("writerTimeout"),
    sealDelayMs: read("sealDelay"),
    replayIntervalMs: read("replayInterval"),
    stripe: stripeOf(text, read),
    uid: read("uid"),
    gid: read("gid"),
    mode: read("mode"),
    logLengthBytes: read("logLength"),
  };
}

type StripeName = "stripe.buckets" | "stripe.strips" | "stripe.chunkSize";

function stripeOf(
  text: (name: StripeName) => string | undefined,
  read: (name: StripeName) => number,
): VolumeParameters["stripe"] {
  const names = ["stripe.buckets", "stripe.strips", "stripe.chunkSize"] as const;
  const missing = names.filter((name) => text(name) === undefined);
  if (missing.length === names.length) return undefined;
  if (missing.length > 0) {
    throw new FamfsError("INVALID_ARGUMENT", `striping wants ${names.join(", ")}; ${missing.join(", ")} is missing`);
  }
  const stripe = { buckets: read(names[0]), strips: read(names[1]), chunkBytes: read(names[2]) };
  if (stripe.strips > stripe.buckets) {
    throw new FamfsError(
      "INVALID_ARGUMENT",
      `stripe.strips is ${stripe.strips}, more than the ${stripe.buckets} of stripe.buckets`,
    );
  }
  return stripe;
}

function invalid(name: string, text: string, wanted: string): FamfsError {
  return new FamfsError("INVALID_ARGUMENT", `parameter ${name} is "${text.slice(0, 128)}", it must be ${wanted}`);
}

function match(text: string, name: string, pattern: RegExp, wanted: string): string {
  if (!pattern.test(text)) throw invalid(name, text, wanted);
  return text;
}

function choice<const Choice extends string>(text: string, name: string, choices: readonly Choice[]): Choice {
  const found = choices.find((each) => each === text);
  if (found === undefined) throw invalid(name, text, choices.join(" or "));
  return found;
}

function integer(text: string, name: string, minimum: number, maximum: number): number {
  const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= minimum && value <= maximum)) throw invalid(name, text, `a number from ${minimum} to ${maximum}`);
  return value;
}

const MILLISECONDS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

function duration(text: string, name: string, minimumMs: number, maximumMs: number): number {
  const found = /^(\d{1,9})(ms|s|m|h)$/.exec(text);
  const value = Number(found?.[1]) * (MILLISECONDS[found?.[2] ?? ""] ?? Number.NaN);
  if (!(value >= minimumMs && value <= maximumMs)) {
    throw invalid(name, text, `a time such as 500ms, 30s or 2m, from ${minimumMs} to ${maximumMs} ms`);
  }
  return value;
}

function powerOfTwo(text: string, name: string, minimum: number, maximum: number): number {
  let value = Number.NaN;
  try {
    value = parseSize(text);
  } catch {
    // said below, with the parameter's name
  }
  if (!(value >= minimum && value <= maximum && Number.isInteger(Math.log2(value)))) {
    throw invalid(name, text, `a power of two from ${minimum / MIB}Mi to ${maximum / MIB}Mi`);
  }
  return value;
}
