import { uninterrupted } from "../../base/index.ts";
import type { NodeEntry } from "../volume-tree.ts";
import type { ServedNode } from "./served-node.ts";

/** Callers and flags of tests. */
export const USER = uninterrupted({ uid: 1000, gid: 1000, pid: 1 });
export const ROOT = 1;
export const O = { RDONLY: 0, WRONLY: 1, RDWR: 2, CREAT: 0o100, EXCL: 0o200, TRUNC: 0o1000 } as const;

/** create, write, close. */
export async function put(node: ServedNode, name: string, data: string, parent: number = ROOT): Promise<NodeEntry> {
  const { entry, opened } = await node.tree.create(parent, name, 0o644, O.WRONLY | O.TRUNC, USER);
  if (data !== "") await node.write(opened, 0, data);
  node.tree.release(opened.handle);
  return entry;
}

export function find(node: ServedNode, path: string): NodeEntry | undefined {
  let nodeid = ROOT;
  let entry: NodeEntry | undefined;
  for (const name of path.split("/")) {
    if (entry !== undefined && (entry.attributes.mode & 0o170000) !== 0o040000) return undefined;
    const found = node.tree.lookup(nodeid, name);
    if (!("attributes" in found)) return undefined;
    entry = found;
    nodeid = found.attributes.nodeid;
  }
  return entry;
}

export function nodeidOf(node: ServedNode, path: string): number {
  const entry = find(node, path);
  if (entry === undefined) throw new Error(`no ${path}`);
  return entry.attributes.nodeid;
}

export async function contents(node: ServedNode, path: string): Promise<string> {
  const opened = await node.tree.open(nodeidOf(node, path), O.RDONLY);
  try {
    return node.read(opened);
  } finally {
    node.tree.release(opened.handle);
  }
}

export function list(node: ServedNode, nodeid: number = ROOT): string[] {
  return [...node.tree.readDirectory(nodeid, 0)].map(({ name }) => name).sort();
}

/** Every path below the root with what a second mount must show of it. */
export async function snapshot(node: ServedNode, nodeid: number = ROOT, path = ""): Promise<Record<string, unknown>> {
  const result: Record<string, unknown> = {};
  for (const { name, entry } of node.tree.readDirectory(nodeid, 0)) {
    const { attributes } = entry;
    const here = `${path}${name}`;
    const type = attributes.mode & 0o170000;
    const { mode, uid, gid, mtime } = attributes;
    const what =
      type === 0o040000
        ? "directory"
        : type === 0o120000
          ? node.tree.readLink(attributes.nodeid)
          : await contentOf(node, attributes.nodeid);
    result[here] = { mode, uid, gid, mtime, what };
    if (type === 0o040000) Object.assign(result, await snapshot(node, attributes.nodeid, `${here}/`));
  }
  return result;
}

async function contentOf(node: ServedNode, nodeid: number): Promise<string> {
  const opened = await node.tree.open(nodeid, O.RDONLY);
  const data = node.read(opened);
  node.tree.release(opened.handle);
  return data;
}
