import { FamfsError } from "../../base/index.ts";

/** What every object of the API has, as far as we look at it. */
export interface ApiObject {
  readonly metadata: {
    readonly name: string;
    readonly uid: string;
    readonly resourceVersion: string;
    readonly creationTimestamp: string;
    readonly deletionTimestamp?: string;
    readonly annotations: Readonly<Record<string, string>>;
    readonly finalizers: readonly string[];
  };
  readonly spec: unknown;
  readonly status: unknown;
}

/** The parts of an object that a record decides. A field that the record has not is there and undefined. */
export interface ObjectBody {
  readonly annotations?: Readonly<Record<string, string>>;
  readonly spec: Readonly<Record<string, unknown>>;
  readonly status?: Readonly<Record<string, unknown>>;
}

export function parseObject(apiKind: string, value: unknown): ApiObject {
  const { metadata, spec, status } = asRecord(value);
  const { name, uid, resourceVersion, creationTimestamp, deletionTimestamp, annotations, finalizers } =
    asRecord(metadata);
  if (typeof name !== "string" || typeof resourceVersion !== "string") {
    throw new FamfsError("INTERNAL", `the API server gave a ${apiKind} without name or resourceVersion`);
  }
  return {
    metadata: {
      name,
      uid: typeof uid === "string" ? uid : "",
      resourceVersion,
      creationTimestamp: typeof creationTimestamp === "string" ? creationTimestamp : "",
      ...(typeof deletionTimestamp === "string" ? { deletionTimestamp } : {}),
      annotations: Object.fromEntries(Object.entries(asRecord(annotations)).map(([key, text]) => [key, String(text)])),
      finalizers: Array.isArray(finalizers) ? finalizers.map(String) : [],
    },
    spec,
    status,
  };
}

export function asRecord(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}
