/**
 * The layers of the source and who may import whom. The table is the documentation; the tests read every import
 * under src/ and compare.
 */
import assert from "node:assert/strict";
import { existsSync, globSync, readFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { dirname, join, relative, resolve } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

interface Layer {
  /** Folders whose index.ts this layer may import. */
  readonly imports: readonly string[];
  /** npm packages. */
  readonly packages?: readonly string[];
  /** Files that others may import beside index.ts: a part of the layer that does not need the rest. */
  readonly parts?: readonly string[];
  /** Pure: bytes in, values out. No file, socket, process, thread or clock. */
  readonly pure?: true;
}

const LAYERS: Readonly<Record<string, Layer>> = {
  base: { imports: [] },
  format: { imports: ["base"], pure: true },
  alloc: { imports: ["base"], pure: true },
  media: { imports: ["format", "base", "native"] },
  tree: { imports: ["media", "alloc", "format", "base"] },
  fuse: { imports: ["base", "native"] },
  state: { imports: ["base"], packages: ["@kubernetes/client-node"] },
  csi: { imports: ["base"], packages: ["@grpc/grpc-js", "@grpc/proto-loader", "protobufjs"] },
  controller: { imports: ["csi", "state", "tree", "media", "alloc", "format", "base"] },
  node: {
    imports: ["csi", "state", "fuse", "tree", "media", "alloc", "format", "base", "native"],
    parts: ["local.ts"],
  },
  cli: {
    imports: ["node", "controller", "csi", "state", "fuse", "tree", "media", "alloc", "format", "base"],
    packages: ["commander", "pino", "prom-client"],
  },
};

/** What a pure layer may take from Node itself. */
const PURE_BUILTINS = ["node:buffer", "node:crypto", "node:util", "node:zlib"];
/** What the tests beside the code may use besides their layer. */
const TEST_PACKAGES = ["fast-check"];

const root = fileURLToPath(new URL("..", import.meta.url));

interface Import {
  readonly file: string;
  readonly line: number;
  readonly specifier: string;
  /** `import type` and `export type`: gone at run time. */
  readonly typeOnly: boolean;
}

// Import and re-export declarations, import() and import types, worker entry points.
const IMPORT =
  /(?:^|\n)\s*(?:import|export)\s(?:[^"'`;]*?\sfrom\s*)?["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']|new URL\(\s*["'](\.{1,2}\/[^"']+\.[mc]?[jt]s)["']/g;

export function importsOf(file: string, text: string): Import[] {
  // Comments may show imports; the newlines stay, so that lines are counted right.
  const code = text
    .replaceAll(/\/\*[\s\S]*?\*\//g, (comment) => comment.replaceAll(/[^\n]/g, " "))
    .replaceAll(/(^|\s)\/\/[^\n]*/g, "$1");
  return [...code.matchAll(IMPORT)].map((match) => ({
    file,
    line: code.slice(0, match.index + match[0].length).split("\n").length,
    specifier: match[1] ?? match[2] ?? match[3] ?? "",
    typeOnly: /^\s*(?:import|export)\s+type\b/.test(match[0]),
  }));
}

const sources = globSync("src/**/*.ts", { cwd: root }).sort();
const imports = sources.flatMap((file) => importsOf(file, readFileSync(join(root, file), "utf8")));

/** Tests and what only they use. */
const isTest = (file: string) => file.endsWith(".test.ts") || file.includes("/testing/");
const layerOf = (file: string) => file.split("/")[1] ?? "";

/** Why this import is wrong, or undefined. */
function objection({ file, specifier }: Import): string | undefined {
  const layer = LAYERS[layerOf(file)];
  if (layer === undefined) return undefined; // reported by its folder
  if (!specifier.startsWith(".")) return packageObjection(file, layer, specifier);

  const target = relative(root, resolve(root, dirname(file), specifier));
  if (!existsSync(join(root, target))) return "no such file";
  const [top = "", folder = ""] = target.split("/");
  if (top === "src") {
    if (folder === layerOf(file)) return undefined;
    if (!layer.imports.includes(folder)) return `${layerOf(file)} may not import ${folder}`;
    const doors = ["index.ts", ...(LAYERS[folder]?.parts ?? [])].map((file) => `src/${folder}/${file}`);
    return doors.includes(target) ? undefined : `another layer is imported through ${doors.join(" or ")}`;
  }
  if (top === "native") {
    if (!layer.imports.includes("native")) return `${layerOf(file)} may not import native`;
    return target === "native/index.ts" ? undefined : "the addon is imported through native/index.ts";
  }
  if (target === "package.json" && layerOf(file) === "cli") return undefined;
  if (top === "test" && folder === "support" && isTest(file)) return undefined;
  return `src may not import from ${top}`;
}

function packageObjection(file: string, layer: Layer, specifier: string): string | undefined {
  if (specifier.startsWith("node:")) {
    if (layer.pure !== true || isTest(file) || PURE_BUILTINS.includes(specifier)) return undefined;
    return `${layerOf(file)} is pure and may not import ${specifier}`;
  }
  if (builtinModules.includes(specifier)) return `write node:${specifier}`;
  const name = specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
  if (layer.packages?.includes(name) || (isTest(file) && TEST_PACKAGES.includes(name))) return undefined;
  return `${layerOf(file)} may not import the package ${name}`;
}

test("every import under src is one that the table of layers allows", () => {
  assert.ok(imports.length > 0);
  const wrong = imports.flatMap((one) => {
    const reason = objection(one);
    return reason === undefined ? [] : [`${one.file}:${one.line} imports ${one.specifier}: ${reason}`];
  });
  assert.deepEqual(wrong, []);
});

test("every folder under src is a layer of the table, and each layer used from outside has an index.ts", () => {
  const folders = [...new Set(sources.map(layerOf))];
  assert.deepEqual(
    folders.filter((folder) => !(folder in LAYERS)),
    [],
  );
  const used = new Set(imports.map(({ file, specifier }) => relative(root, resolve(root, dirname(file), specifier))));
  const missing = [...used].filter((target) => /^src\/[^/]+\/index\.ts$/.test(target) && !sources.includes(target));
  assert.deepEqual(missing, []);
});

test("the table itself has no cycle and names only layers", () => {
  const order: string[] = [];
  const visit = (name: string, path: readonly string[]) => {
    assert.ok(!path.includes(name), `cycle: ${[...path, name].join(" -> ")}`);
    if (name === "native" || order.includes(name)) return;
    const layer = LAYERS[name];
    assert.ok(layer !== undefined, `unknown layer ${name}`);
    for (const next of layer.imports) visit(next, [...path, name]);
    order.push(name);
  };
  for (const name of Object.keys(LAYERS)) visit(name, []);
  assert.equal(order.length, Object.keys(LAYERS).length);
});

test("no file imports itself through others", () => {
  const edges = new Map<string, string[]>();
  for (const { file, specifier, typeOnly } of imports) {
    // Types may refer to each other in circles: that costs nothing at run time.
    if (!specifier.startsWith(".") || typeOnly) continue;
    const target = relative(root, resolve(root, dirname(file), specifier));
    edges.set(file, [...(edges.get(file) ?? []), target]);
  }
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]) => {
    assert.ok(!path.includes(file), `cycle: ${[...path.slice(path.indexOf(file)), file].join(" -> ")}`);
    if (done.has(file)) return;
    for (const next of edges.get(file) ?? []) visit(next, [...path, file]);
    done.add(file);
  };
  for (const file of edges.keys()) visit(file, []);
});

test("an index.ts is not imported from inside its own layer", () => {
  const wrong = imports.filter(
    ({ file, specifier }) =>
      !isTest(file) && relative(root, resolve(root, dirname(file), specifier)) === `src/${layerOf(file)}/index.ts`,
  );
  assert.deepEqual(
    wrong.map(({ file, line }) => `${file}:${line}`),
    [],
  );
});

test("every way to write an import is seen", () => {
  const seen = importsOf(
    "x.ts",
    [
      'import { a } from "./a.ts";',
      "import {\n  b,\n} from './b.ts';",
      'import "./c.ts";',
      'export * from "./d.ts";',
      'export type { E } from "./e.ts";',
      'const f = await import("./f.ts");',
      'type G = import("./g.ts").G;',
      'new Worker(new URL("./h.ts", import.meta.url));',
      '// import "./no.ts"',
      '/* import "./no.ts" */',
      'const text = "not an import from anywhere";',
    ].join("\n"),
  );
  assert.deepEqual(
    seen.map(({ specifier, line }) => `${line} ${specifier}`),
    ["1 ./a.ts", "4 ./b.ts", "5 ./c.ts", "6 ./d.ts", "7 ./e.ts", "8 ./f.ts", "9 ./g.ts", "10 ./h.ts"],
  );
});
