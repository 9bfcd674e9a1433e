import { messageOf } from "../../base/index.ts";
import { type Kind, RECORD_SCHEMAS, type Records } from "../records.ts";
import { parseRecord } from "../schema.ts";
import { devicesIn, type StoredRecord, type Unreadable } from "../store.ts";
import { type ApiObject, asRecord, type ObjectBody, parseObject } from "./api-object.ts";
import { displayFields } from "./display.ts";
import { DEVICE_FIELDS, type Field, VOLUME_FIELDS } from "./fields.ts";
import { leaseBody, leaseFields } from "./node-lease.ts";

export const API_GROUP = "famfs.csi.dev";
export const API_VERSION = "v1alpha1";

export interface Resource<K extends Kind> {
  readonly kind: K;
  readonly apiVersion: string;
  readonly apiKind: string;
  /** Collection path on the API server. */
  readonly path: string;
  /** Present where losing the object would lose what it protects: `kubectl delete` then waits for us. */
  readonly finalizer?: string;
  toBody(record: Records[K]): ObjectBody;
  toFields(object: ApiObject): unknown;
}

export type Resources = { readonly [K in Kind]: Resource<K> };

/** On every record of memory: `kubectl delete` waits until the driver has given the memory back. */
export const MEMORY_FINALIZER = `${API_GROUP}/memory`;

/** The custom resources alone. */
export function recordResources(): Pick<Resources, "volumes" | "devices"> {
  return {
    volumes: customResource("volumes", "FamfsVolume", VOLUME_FIELDS),
    devices: customResource("devices", "FamfsDevice", DEVICE_FIELDS),
  };
}

/** The resource of each kind of record; the Leases of nodes live in a namespace of their own. */
export function resources(nodeNamespace: string): Resources {
  return {
    ...recordResources(),
    nodes: {
      kind: "nodes",
      apiVersion: "coordination.k8s.io/v1",
      apiKind: "Lease",
      path: `/apis/coordination.k8s.io/v1/namespaces/${nodeNamespace}/leases`,
      toBody: leaseBody,
      toFields: leaseFields,
    },
  };
}

function customResource<K extends "volumes" | "devices">(
  kind: K,
  apiKind: string,
  fields: Readonly<Record<string, Field>>,
): Resource<K> {
  const namesIn = (part: Field["part"]) => Object.keys(fields).filter((name) => fields[name]?.part === part);
  return {
    kind,
    apiVersion: `${API_GROUP}/${API_VERSION}`,
    apiKind,
    path: `/apis/${API_GROUP}/${API_VERSION}/${apiKind.toLowerCase()}s`,
    finalizer: MEMORY_FINALIZER,
    toBody(record) {
      const given: Readonly<Record<string, unknown>> = { ...record };
      const part = (wanted: Field["part"]) => Object.fromEntries(namesIn(wanted).map((name) => [name, given[name]]));
      return { spec: part("spec"), status: { ...part("status"), display: displayFields(kind, record) } };
    },
    toFields(object) {
      const part = (wanted: Field["part"]) => {
        const given = asRecord(object[wanted]);
        return namesIn(wanted).map((name) => [name, given[name]]);
      };
      return Object.fromEntries([...part("spec"), ...part("status")]);
    },
  };
}

/** The record in an object that the API server gave. Throws INTERNAL when it is none. */
export function toRecord<K extends Kind>(resource: Resource<K>, value: unknown): StoredRecord<K> {
  const object = parseObject(resource.apiKind, value);
  const { name, resourceVersion, creationTimestamp: createdAt } = object.metadata;
  const fields = parseRecord(RECORD_SCHEMAS[resource.kind], resource.toFields(object), `${resource.apiKind} ${name}`);
  return { ...(fields as Records[K]), name, resourceVersion, createdAt };
}

/** As `toRecord`, for those who go on without what is none. */
export function readRecord<K extends Kind>(resource: Resource<K>, value: unknown): StoredRecord<K> | Unreadable {
  try {
    return toRecord(resource, value);
  } catch (error) {
    const { metadata, status } = asRecord(value);
    const name = String(asRecord(metadata)["name"]);
    return { name, reason: messageOf(error), devices: devicesIn(asRecord(status)["regions"]) };
  }
}
