import type { ErrorCode } from "../../base/index.ts";

/** POSIX in memory with famfs's one rule on top: what is sealed keeps its size. */
export interface ModelFile {
  readonly type: "file";
  data: string;
  sealed: boolean;
  writers: number;
  mode: number;
}

export interface ModelDirectory {
  readonly type: "directory";
  readonly children: Map<string, ModelNode>;
  mode: number;
}

export interface ModelSymlink {
  readonly type: "symlink";
  readonly target: string;
}

export type ModelNode = ModelFile | ModelDirectory | ModelSymlink;

export class Refused extends Error {
  readonly code: ErrorCode;
  constructor(code: ErrorCode) {
    super(code);
    this.code = code;
  }
}

export class PosixModel {
  readonly root: ModelDirectory = { type: "directory", children: new Map(), mode: 0o755 };

  find(path: string): ModelNode | undefined {
    let node: ModelNode | undefined = this.root;
    for (const name of path.split("/")) node = node?.type === "directory" ? node.children.get(name) : undefined;
    return node;
  }

  /** The directory a path lies in; undefined when it is not there. */
  parent(path: string): { directory: ModelDirectory; name: string } | undefined {
    const cut = path.lastIndexOf("/");
    const directory = cut < 0 ? this.root : this.find(path.slice(0, cut));
    return directory?.type === "directory" ? { directory, name: path.slice(cut + 1) } : undefined;
  }

  add(path: string, node: ModelNode): void {
    const { directory, name } = this.#place(path);
    if (directory.children.has(name)) throw new Refused("FILE_EXISTS");
    directory.children.set(name, node);
  }

  remove(path: string, kind: "directory" | "other"): void {
    const { directory, name } = this.#place(path);
    const node = directory.children.get(name);
    if (node === undefined) throw new Refused("FILE_NOT_FOUND");
    if (kind === "directory") {
      if (node.type !== "directory") throw new Refused("NOT_A_DIRECTORY");
      if (node.children.size > 0) throw new Refused("DIRECTORY_NOT_EMPTY");
    } else if (node.type === "directory") throw new Refused("IS_A_DIRECTORY");
    directory.children.delete(name);
  }

  rename(from: string, to: string, exchange: boolean): void {
    const source = this.#place(from);
    const target = this.#place(to);
    const node = source.directory.children.get(source.name);
    if (node === undefined) throw new Refused("FILE_NOT_FOUND");
    const there = target.directory.children.get(target.name);
    if (node.type === "directory" && isWithin(target.directory, node)) throw new Refused("INVALID_OPERATION");
    if (exchange) {
      if (there === undefined) throw new Refused("FILE_NOT_FOUND");
      if (there.type === "directory" && isWithin(source.directory, there)) throw new Refused("INVALID_OPERATION");
      source.directory.children.set(source.name, there);
      target.directory.children.set(target.name, node);
      return;
    }
    if (node === there) return;
    if (there !== undefined && node.type === "directory") {
      if (there.type !== "directory") throw new Refused("NOT_A_DIRECTORY");
      if (there.children.size > 0) throw new Refused("DIRECTORY_NOT_EMPTY");
    } else if (there?.type === "directory") throw new Refused("IS_A_DIRECTORY");
    source.directory.children.delete(source.name);
    target.directory.children.set(target.name, node);
  }

  /** Across the end of a sealed file only what fits is written. */
  write(file: ModelFile, offset: number, given: string): void {
    let data = given;
    if (file.sealed && offset + data.length > file.data.length) {
      if (file.data.length === 0) file.sealed = false;
      else if (offset >= file.data.length) throw new Refused("WRITE_PAST_END");
      else data = data.slice(0, file.data.length - offset);
    }
    const end = offset + data.length;
    const padded = file.data.padEnd(offset, "\0");
    file.data = padded.slice(0, offset) + data + padded.slice(end);
  }

  truncate(file: ModelFile, size: number): void {
    if (size === file.data.length && file.sealed) return;
    if (file.sealed && file.data.length > 0) throw new Refused("SIZE_SEALED");
    file.sealed = false;
    file.data = file.data.slice(0, size).padEnd(size, "\0");
  }

  /** All that is closed enters the log. */
  seal(): void {
    for (const node of this.all()) if (node.type === "file" && node.writers === 0) node.sealed = true;
  }

  *all(directory: ModelDirectory = this.root): Generator<ModelNode> {
    for (const node of directory.children.values()) {
      yield node;
      if (node.type === "directory") yield* this.all(node);
    }
  }

  /** What a snapshot of the tree should say: path to content. */
  contents(directory: ModelDirectory = this.root, path = ""): Record<string, string> {
    const result: Record<string, string> = {};
    for (const [name, node] of directory.children) {
      const here = `${path}${name}`;
      if (node.type === "directory") {
        result[here] = "directory";
        Object.assign(result, this.contents(node, `${here}/`));
      } else result[here] = node.type === "symlink" ? node.target : node.data;
    }
    return result;
  }

  #place(path: string): { directory: ModelDirectory; name: string } {
    const place = this.parent(path);
    if (place === undefined) throw new Refused("FILE_NOT_FOUND");
    return place;
  }
}

function isWithin(directory: ModelDirectory, ancestor: ModelDirectory): boolean {
  if (directory === ancestor) return true;
  for (const child of ancestor.children.values()) {
    if (child.type === "directory" && isWithin(directory, child)) return true;
  }
  return false;
}
