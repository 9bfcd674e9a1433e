/** Modules with a rule taken out: a text in their source replaced, in this process only. */
import { readFileSync } from "node:fs";
import { registerHooks } from "node:module";
import { fileURLToPath } from "node:url";

/** `text` in the file whose path ends with `file`, where it must be exactly once, becomes `by`. */
export interface Mutation {
  readonly file: string;
  readonly text: string;
  readonly by: string;
}

const KEY = "mutation";
const mutations = new Map<string, readonly Mutation[]>();
const used = new Map<string, number>();

registerHooks({
  resolve(specifier, context, next) {
    const found = next(specifier, context);
    const id = context.parentURL === undefined ? null : new URL(context.parentURL).searchParams.get(KEY);
    // All that a mutated module imports is loaded anew, or it would find the modules as they are.
    if (id === null || !found.url.startsWith("file:") || found.url.includes("/node_modules/")) return found;
    const url = new URL(found.url);
    if (!url.searchParams.has(KEY)) url.searchParams.set(KEY, id);
    return { ...found, url: url.href };
  },
  load(url, context, next) {
    const id = url.startsWith("file:") ? new URL(url).searchParams.get(KEY) : null;
    if (id === null) return next(url, context);
    const path = fileURLToPath(new URL(url));
    let source = readFileSync(path, "utf8");
    for (const { file, text, by } of mutations.get(id) ?? []) {
      if (!path.endsWith(file)) continue;
      if (source.split(text).length !== 2) throw new Error(`${file} does not have once: ${text}`);
      source = source.replace(text, () => by);
      used.set(id, (used.get(id) ?? 0) + 1);
    }
    return { ...next(url, { ...context, format: "module-typescript" }), source };
  },
});

/** Imports the module at `url` with the mutations in it and in all that it imports. */
export async function importMutated<M>(url: URL, changes: readonly Mutation[]): Promise<M> {
  const id = String(mutations.size);
  mutations.set(id, changes);
  const mutated = new URL(url);
  mutated.searchParams.set(KEY, id);
  const module = (await import(mutated.href)) as M;
  if (used.get(id) !== changes.length) throw new Error(`not every mutation met its file: ${JSON.stringify(changes)}`);
  return module;
}
