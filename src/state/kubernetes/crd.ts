import { RECORD_SCHEMAS } from "../records.ts";
import type { Schema } from "../schema.ts";
import { DISPLAY_FIELDS } from "./display.ts";
import { CONDITION_DESCRIPTIONS, DEVICE_FIELDS, type Field, VOLUME_FIELDS } from "./fields.ts";
import { API_GROUP, API_VERSION } from "./resources.ts";

/*
 * The custom resource definitions, derived from the schemas of the records. scripts/gen-crds.ts writes them into the
 * chart; a test compares.
 */

/** A rule over the old and the new object, in the Common Expression Language. */
interface Rule {
  readonly rule: string;
  readonly message: string;
}

interface Column {
  readonly name: string;
  readonly type: "string" | "integer" | "date";
  readonly jsonPath: string;
  readonly description?: string;
  /** Above 0: shown with `-o wide` only. */
  readonly priority?: number;
}

interface Definition {
  readonly kind: string;
  readonly shortName: string;
  readonly description: string;
  readonly record: "volumes" | "devices";
  readonly fields: Readonly<Record<string, Field>>;
  readonly rules: { readonly spec: readonly Rule[]; readonly status: readonly Rule[] };
  readonly columns: readonly Column[];
}

/** The server bounds the cost of rules by these; far above what the driver writes. */
const LONGEST_TEXT = 4096;
const MOST_ITEMS = 1024;

const immutable = (name: string): Rule => ({
  rule: `self.${name} == oldSelf.${name}`,
  message: `${name} never changes`,
});
const growing = (name: string): Rule => ({ rule: `self.${name} >= oldSelf.${name}`, message: `${name} never falls` });
const givenOnce = (name: string): Rule => ({
  rule: `oldSelf.${name} == '' || self.${name} == oldSelf.${name}`,
  message: `${name} never changes once it is given`,
});

export const DEFINITIONS: readonly Definition[] = [
  {
    kind: "FamfsVolume",
    shortName: "fvol",
    description: "A famfs file system in shared memory. Written by the driver; delete the claim, not this.",
    record: "volumes",
    fields: VOLUME_FIELDS,
    rules: {
      spec: [
        immutable("csiName"),
        immutable("uuid"),
        immutable("adopted"),
        {
          rule: "!has(oldSelf.claim) || (has(self.claim) && self.claim == oldSelf.claim)",
          message: "claim never changes once it is known",
        },
        immutable("parameters"),
        growing("capacityBytes"),
      ],
      status: [
        givenOnce("pool"),
        givenOnce("fabric"),
        growing("regionGeneration"),
        growing("epoch"),
        {
          rule: "oldSelf.slots.all(node, node in self.slots ? self.slots[node] == oldSelf.slots[node] : !(node in self.staged) && !(node in self.published))",
          message: "an owner slot is its node's as long as the node has the volume",
        },
        {
          rule: "oldSelf.phase != 'Reclaiming' || self.phase == 'Reclaiming'",
          message: "a volume that is being reclaimed does not come back",
        },
        {
          rule: "!has(self.writer) || self.writer.epoch <= self.epoch",
          message: "the writer's epoch is one that was handed out",
        },
      ],
    },
    columns: [
      { name: "Phase", type: "string", jsonPath: ".status.phase" },
      { name: "Size", type: "string", jsonPath: ".status.display.size" },
      { name: "Pool", type: "string", jsonPath: ".status.pool" },
      { name: "Writer", type: "string", jsonPath: ".status.writer.nodeId" },
      { name: "Epoch", type: "integer", jsonPath: ".status.epoch" },
      { name: "Nodes", type: "string", jsonPath: ".status.display.nodes", description: "Nodes it is attached to" },
      { name: "Claim", type: "string", jsonPath: ".status.display.claim", description: "The claim it was made for" },
      { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" },
      { name: "Fabric", type: "string", jsonPath: ".status.fabric", priority: 1 },
      { name: "Job", type: "string", jsonPath: ".status.jobNode", priority: 1 },
      { name: "Failure", type: "string", jsonPath: ".status.failure.message", priority: 1 },
    ],
  },
  {
    kind: "FamfsDevice",
    shortName: "fdev",
    description: "A memory device that the driver manages. Written by the driver.",
    record: "devices",
    fields: DEVICE_FIELDS,
    rules: {
      spec: [immutable("uuid"), immutable("fabric")],
      status: [
        growing("generation"),
        growing("incarnation"),
        {
          rule: "!has(oldSelf.intent) || !has(self.intent) || self.intent == oldSelf.intent",
          message: "an unfinished allocation is finished before the next",
        },
      ],
    },
    columns: [
      { name: "Pool", type: "string", jsonPath: ".spec.pool" },
      { name: "Fabric", type: "string", jsonPath: ".spec.fabric" },
      { name: "Size", type: "string", jsonPath: ".status.display.size" },
      { name: "Coherency", type: "string", jsonPath: ".spec.coherency" },
      { name: "Nodes", type: "string", jsonPath: ".status.display.nodes", description: "Nodes that reach it" },
      { name: "Frozen", type: "date", jsonPath: ".status.frozen.since", description: "The store was restored then" },
      { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" },
      { name: "Allocating", type: "string", jsonPath: ".status.intent.volume", priority: 1 },
    ],
  },
];

/** The CustomResourceDefinition as an object; `kept` says whether uninstalling the chart leaves it (and all data). */
export function customResourceDefinition(definition: Definition): object {
  const { kind, shortName, description, columns } = definition;
  const singular = kind.toLowerCase();
  const part = (name: "spec" | "status") => ({ ...partSchema(definition, name), ...rules(definition.rules[name]) });
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: {
      name: `${singular}s.${API_GROUP}`,
      annotations: { "helm.sh/resource-policy": "keep" },
    },
    spec: {
      group: API_GROUP,
      scope: "Cluster",
      names: { kind, listKind: `${kind}List`, plural: `${singular}s`, singular, shortNames: [shortName] },
      versions: [
        {
          name: API_VERSION,
          served: true,
          storage: true,
          additionalPrinterColumns: columns,
          schema: {
            openAPIV3Schema: {
              type: "object",
              description,
              required: ["spec", "status"],
              properties: {
                apiVersion: { type: "string" },
                kind: { type: "string" },
                metadata: { type: "object" },
                spec: part("spec"),
                status: part("status"),
              },
            },
          },
        },
      ],
    },
  };
}

function partSchema(
  { record, fields }: Definition,
  part: "spec" | "status",
): { properties: object; required: string[] } {
  const { properties }: { properties: Readonly<Record<string, Schema>> } = RECORD_SCHEMAS[record];
  const mine = Object.entries(properties).filter(([name]) => fields[name]?.part === part);
  const schema = openApi({ type: "object", properties: Object.fromEntries(mine) });
  const described = Object.fromEntries(
    mine.map(([name, each]) => [
      name,
      { description: fields[name]?.description, ...(name === "conditions" ? conditions(each) : openApi(each)) },
    ]),
  );
  const display = {
    type: "object",
    description: "For people; derived from the rest.",
    properties: Object.fromEntries(
      Object.entries(DISPLAY_FIELDS[record]).map(([name, text]) => [name, { type: "string", description: text }]),
    ),
  };
  return {
    ...schema,
    required: schema.required,
    properties: { ...described, ...(part === "status" ? { display } : {}) },
  };
}

function rules(list: readonly Rule[]): object {
  return list.length === 0 ? {} : { "x-kubernetes-validations": list };
}

interface OpenApiObject {
  readonly type: "object";
  readonly required: string[];
  readonly properties: object;
}

function openApi(schema: Extract<Schema, { type: "object" }>): OpenApiObject;
function openApi(schema: Schema): object;
function openApi(schema: Schema): object {
  switch (schema.type) {
    case "string":
      return {
        type: "string",
        ...(schema.minLength === undefined ? {} : { minLength: schema.minLength }),
        ...(schema.enum === undefined ? { maxLength: LONGEST_TEXT } : { enum: schema.enum }),
      };
    case "integer":
      return {
        type: "integer",
        format: "int64",
        ...(schema.minimum === undefined ? {} : { minimum: schema.minimum }),
        maximum: Number.MAX_SAFE_INTEGER,
      };
    case "boolean":
      return { type: "boolean" };
    case "array":
      return { type: "array", maxItems: MOST_ITEMS, items: openApi(schema.items) };
    case "map":
      return { type: "object", maxProperties: MOST_ITEMS, additionalProperties: openApi(schema.values) };
    case "object": {
      const entries = Object.entries(schema.properties);
      return {
        type: "object",
        required: entries.filter(([, each]) => each.type !== "optional").map(([name]) => name),
        properties: Object.fromEntries(entries.map(([name, each]) => [name, openApi(each)])),
      };
    }
    case "optional":
      return openApi(schema.of);
    default:
      return schema satisfies never;
  }
}

/** A list by type, so that `kubectl wait --for=condition=…` and server-side apply know what they look at. */
function conditions(schema: Schema): object {
  if (schema.type !== "array" || schema.items.type !== "object")
    throw new TypeError("conditions are a list of objects");
  const items = openApi(schema.items);
  const properties = Object.fromEntries(
    Object.entries(items.properties).map(([name, each]) => [
      name,
      { description: (CONDITION_DESCRIPTIONS as Readonly<Record<string, string>>)[name], ...each },
    ]),
  );
  return {
    ...openApi(schema),
    items: { ...items, properties },
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["type"],
  };
}
