import { FamfsError } from "../base/index.ts";

/**
 * The shape of a stored record as data, in the words of JSON schema: one source for the TypeScript type, the check of
 * what a store hands back, and the custom resource definitions. Optional fields are absent in JSON and `undefined`
 * here. An older program reads what a newer one wrote, and fields that it does not know go back with what it changes.
 */
export type Schema =
  | { readonly type: "string"; readonly enum?: readonly string[]; readonly minLength?: number }
  | { readonly type: "integer"; readonly minimum?: number }
  | { readonly type: "boolean" }
  | { readonly type: "array"; readonly items: Schema }
  | { readonly type: "map"; readonly values: Schema }
  | { readonly type: "object"; readonly properties: { readonly [name: string]: Schema } }
  | { readonly type: "optional"; readonly of: Schema };

/** The type of the values a schema admits. */
export type Parsed<S> = S extends { type: "string"; enum: readonly (infer Choice)[] }
  ? Choice
  : S extends { type: "string" }
    ? string
    : S extends { type: "integer" }
      ? number
      : S extends { type: "boolean" }
        ? boolean
        : S extends { type: "array"; items: infer Items }
          ? readonly Parsed<Items>[]
          : S extends { type: "map"; values: infer Values }
            ? Readonly<Record<string, Parsed<Values>>>
            : S extends { type: "object"; properties: infer Properties }
              ? { readonly [Name in keyof Properties]: Parsed<Properties[Name]> }
              : S extends { type: "optional"; of: infer Of }
                ? Parsed<Of> | undefined
                : never;

export const string = { type: "string" } as const;
export const id = { type: "string", minLength: 1 } as const;
/** Safe integers that count or measure. */
export const count = { type: "integer", minimum: 0 } as const;
export const boolean = { type: "boolean" } as const;
export const oneOf = <const Choices extends readonly string[]>(choices: Choices) =>
  ({ type: "string", enum: choices }) as const;
export const array = <const S extends Schema>(items: S) => ({ type: "array", items }) as const;
export const map = <const S extends Schema>(values: S) => ({ type: "map", values }) as const;
export const object = <const P extends Record<string, Schema>>(properties: P) =>
  ({ type: "object", properties }) as const;
export const optional = <const S extends Schema>(of: S) => ({ type: "optional", of }) as const;

/** `value` as the schema says. Throws INTERNAL naming the first field that is not: the store holds something else. */
export function parseRecord<const S extends Schema>(schema: S, value: unknown, path: string): Parsed<S> {
  return parse(schema, value, path) as Parsed<S>;
}

function parse(schema: Schema, value: unknown, path: string): unknown {
  switch (schema.type) {
    case "string":
      if (typeof value !== "string" || value.length < (schema.minLength ?? 0)) throw bad(path, "a text", value);
      if (schema.enum !== undefined && !schema.enum.includes(value)) throw bad(path, schema.enum.join(" or "), value);
      return value;
    case "integer":
      if (!Number.isSafeInteger(value) || (value as number) < (schema.minimum ?? Number.MIN_SAFE_INTEGER)) {
        throw bad(path, `an integer of at least ${schema.minimum}`, value);
      }
      return value;
    case "boolean":
      if (typeof value !== "boolean") throw bad(path, "true or false", value);
      return value;
    case "array":
      if (!Array.isArray(value)) throw bad(path, "a list", value);
      return value.map((item, index) => parse(schema.items, item, `${path}[${index}]`));
    case "map":
      return Object.fromEntries(
        Object.entries(asObject(value, path)).map(([key, item]) => [key, parse(schema.values, item, `${path}.${key}`)]),
      );
    case "object": {
      const source = asObject(value, path);
      const known = Object.entries(schema.properties).map(([name, property]) => [
        name,
        parse(property, Object.hasOwn(source, name) ? source[name] : undefined, `${path}.${name}`),
      ]);
      return { ...source, ...Object.fromEntries(known) };
    }
    case "optional":
      return value === undefined ? undefined : parse(schema.of, value, path);
    default:
      return schema satisfies never;
  }
}

function asObject(value: unknown, path: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw bad(path, "an object", value);
  return value as Record<string, unknown>;
}

function bad(path: string, wanted: string, value: unknown): FamfsError {
  const found = JSON.stringify(value)?.slice(0, 60) ?? "nothing";
  return new FamfsError("INTERNAL", `stored record ${path}: ${found} where ${wanted} should be`);
}
