import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { cases } from "../../test/support/cases.ts";
import { ALLOC_UNIT, isFamfsError } from "../base/index.ts";
import { find, O, snapshot, USER } from "./testing/actions.ts";
import { type ModelFile, PosixModel, Refused } from "./testing/posix-model.ts";
import type { ServedNode } from "./testing/served-node.ts";
import { SharedVolume } from "./testing/shared-volume.ts";

const names = fc.constantFrom("a", "b", "c", "n".repeat(90));
const paths = fc.array(names, { minLength: 1, maxLength: 3 }).map((parts) => parts.join("/"));
const data = fc.string({ maxLength: 20 });
const action = fc.oneof(
  { weight: 4, arbitrary: fc.record({ op: fc.constant("put" as const), path: paths, data }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("mkdir" as const), path: paths }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("symlink" as const), path: paths, data }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("unlink" as const), path: paths }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("rmdir" as const), path: paths }) },
  { weight: 5, arbitrary: fc.record({ op: fc.constant("rename" as const), path: paths, to: paths }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("exchange" as const), path: paths, to: paths }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("chmod" as const), path: paths, mode: fc.nat(0o777) }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("open" as const), path: paths, truncate: fc.boolean() }) },
  { weight: 4, arbitrary: fc.record({ op: fc.constant("write" as const), at: fc.nat(30), data }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("ftruncate" as const), size: fc.nat(40) }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("close" as const) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("sync" as const) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("wait" as const) }) },
);
type Action = typeof action extends fc.Arbitrary<infer T> ? T : never;

interface OpenHandle {
  readonly opened: { handle: number; map: number };
  readonly nodeid: number;
  readonly file: ModelFile;
}

/** A tree and its model, which must agree on every outcome. */
class Run {
  readonly volume = new SharedVolume({ dataBytes: 400 * ALLOC_UNIT, capacity: 5000 });
  readonly node: ServedNode = this.volume.serve("a", { sealDelayMs: 1000 });
  readonly model = new PosixModel();
  readonly handles: OpenHandle[] = [];

  async step(action: Action): Promise<void> {
    const expected = await outcome(() => this.#model(action));
    const found = await outcome(() => this.#real(action));
    assert.equal(found, expected, JSON.stringify(action));
  }

  #model(action: Action): void {
    const { model } = this;
    const handle = this.handles.at(-1);
    switch (action.op) {
      case "put": {
        model.add(action.path, { type: "file", data: action.data, sealed: false, writers: 0, mode: 0o644 });
        return;
      }
      case "mkdir":
        model.add(action.path, { type: "directory", children: new Map(), mode: 0o755 });
        return;
      case "symlink":
        if (action.data === "") return;
        model.add(action.path, { type: "symlink", target: action.data });
        return;
      case "unlink":
        model.remove(action.path, "other");
        return;
      case "rmdir":
        model.remove(action.path, "directory");
        return;
      case "rename":
      case "exchange":
        model.rename(action.path, action.to, action.op === "exchange");
        return;
      case "chmod": {
        const node = model.find(action.path);
        if (node !== undefined && node.type !== "symlink") node.mode = action.mode;
        return;
      }
      case "open": {
        const file = model.find(action.path);
        if (file?.type !== "file") return;
        file.writers++;
        if (action.truncate) {
          file.data = "";
          file.sealed = false;
        }
        return;
      }
      case "write":
        if (handle !== undefined && action.data !== "") model.write(handle.file, action.at, action.data);
        return;
      case "ftruncate":
        if (handle !== undefined) model.truncate(handle.file, action.size);
        return;
      case "close":
        if (handle !== undefined) handle.file.writers--;
        return;
      case "sync":
      case "wait":
        this.#sealed(action.op);
        return;
      default:
        action satisfies never;
    }
  }

  /** A file that still has the size that was declared seals though it is open. */
  #sealed(how: "sync" | "wait"): void {
    void how;
    this.model.seal();
    for (const { file } of this.handles) if (this.#declared.get(file) === file.data.length) file.sealed = true;
  }

  readonly #declared = new Map<ModelFile, number>();

  async #real(action: Action): Promise<void> {
    const { tree } = this.node;
    const handle = this.handles.at(-1);
    switch (action.op) {
      case "put": {
        const { parent, name } = this.#place(action.path);
        const { opened } = await tree.create(parent, name, 0o644, O.WRONLY | O.EXCL, USER);
        if (action.data !== "") await this.node.write(opened, 0, action.data);
        tree.release(opened.handle);
        return;
      }
      case "mkdir": {
        const { parent, name } = this.#place(action.path);
        await tree.makeDirectory(parent, name, 0o755, USER);
        return;
      }
      case "symlink": {
        if (action.data === "") return;
        const { parent, name } = this.#place(action.path);
        await tree.makeSymlink(parent, name, action.data, USER);
        return;
      }
      case "unlink":
      case "rmdir": {
        const { parent, name } = this.#place(action.path);
        if (action.op === "unlink") await tree.unlink(parent, name);
        else await tree.removeDirectory(parent, name);
        return;
      }
      case "rename":
      case "exchange": {
        const [from, to] = [this.#place(action.path), this.#place(action.to)];
        await tree.rename(from.parent, from.name, to.parent, to.name, action.op === "exchange" ? 2 : 0);
        return;
      }
      case "chmod": {
        const entry = find(this.node, action.path);
        if (entry === undefined || (entry.attributes.mode & 0o170000) === 0o120000) return;
        await tree.setAttributes(entry.attributes.nodeid, { mode: action.mode });
        return;
      }
      case "open": {
        const entry = find(this.node, action.path);
        const file = this.model.find(action.path);
        if (entry === undefined || file?.type !== "file") return;
        const { nodeid } = entry.attributes;
        const opened = await tree.open(nodeid, O.RDWR | (action.truncate ? O.TRUNC : 0));
        if (action.truncate) this.#declared.delete(file);
        this.handles.push({ opened, nodeid, file });
        return;
      }
      case "write":
        if (handle !== undefined && action.data !== "") await this.node.write(handle.opened, action.at, action.data);
        return;
      case "ftruncate": {
        if (handle === undefined) return;
        const before = tree.getAttributes(handle.nodeid).size;
        await tree.setAttributes(handle.nodeid, { size: action.size, handle: handle.opened.handle });
        if (action.size > before) this.#declared.set(handle.file, action.size);
        else if (action.size < before) this.#declared.delete(handle.file);
        return;
      }
      case "close": {
        const closed = this.handles.pop();
        if (closed !== undefined) tree.release(closed.opened.handle);
        return;
      }
      case "sync":
        await tree.syncFileSystem();
        return;
      case "wait":
        await this.volume.clock.advance(1100);
        return;
      default:
        action satisfies never;
    }
  }

  #place(path: string): { parent: number; name: string } {
    const cut = path.lastIndexOf("/");
    const name = path.slice(cut + 1);
    if (cut < 0) return { parent: 1, name };
    const parent = find(this.node, path.slice(0, cut));
    // As the kernel does: it walks to the parent first.
    if (parent === undefined || (parent.attributes.mode & 0o170000) !== 0o040000) throw new Refused("FILE_NOT_FOUND");
    return { parent: parent.attributes.nodeid, name };
  }

  /** Nothing is open, so it comes about as soon as the grant was held for a while. */
  async handOver(node: ServedNode): Promise<boolean> {
    const cancel = new AbortController();
    const done = node.tree.handOver({ forced: false, signal: cancel.signal });
    await this.volume.clock.advance(200);
    cancel.abort();
    return await done;
  }

  /** Path to content, as the tree of `node` has it. */
  async contents(node: ServedNode): Promise<Record<string, string>> {
    const all = (await snapshot(node)) as Record<string, { what: string }>;
    return Object.fromEntries(Object.entries(all).map(([path, { what }]) => [path, what]));
  }
}

async function outcome(attempt: () => void | Promise<void>): Promise<string> {
  try {
    await attempt();
    return "done";
  } catch (error) {
    if (error instanceof Refused || isFamfsError(error)) return error.code;
    throw error;
  }
}

function sorted<T>(record: Record<string, T>): Record<string, T> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
}

const actions = fc.array(action, { minLength: 1, maxLength: 60 });

test("any sequence of operations does what POSIX with famfs's rule says, and a second mount shows the same", async () => {
  await fc.assert(
    fc.asyncProperty(actions, async (sequence) => {
      const run = new Run();
      for (const one of sequence) await run.step(one);
      assert.deepEqual(sorted(await run.contents(run.node)), sorted(run.model.contents()));
      while (run.handles.length > 0) await run.step({ op: "close" });
      assert.equal(await run.handOver(run.node), true);
      const before = sorted(await snapshot(run.node));
      const other = run.volume.serve("b");
      assert.deepEqual(sorted(await snapshot(other)), before);
      const { findings, tree } = run.volume.replay();
      assert.deepEqual(findings, []);
      assert.deepEqual(run.volume.reservations("a"), []);
      const free = other.tree.status().freeBlocks * 4096;
      assert.equal(free, 400 * ALLOC_UNIT - tree.used(0).total);
      assert.equal(run.node.maps.count, 0);
    }),
    cases(300),
  );
});

test("a crash at any point leaves a consistent log, and the next mount has all the space but what is in it", async () => {
  await fc.assert(
    fc.asyncProperty(actions, async (sequence) => {
      const run = new Run();
      for (const one of sequence) await run.step(one);
      run.volume.steal(); // the node is gone
      const again = run.volume.serve("a");
      const { findings } = run.volume.replay();
      assert.deepEqual(findings, []);
      const { opened } = await again.tree.create(1, "after the crash", 0o644, O.WRONLY, USER);
      await again.write(opened, 0, "works");
      again.tree.release(opened.handle);
      assert.equal(await run.handOver(again), true);
      const { tree } = run.volume.replay();
      assert.equal(again.tree.status().freeBlocks * 4096, 400 * ALLOC_UNIT - tree.used(0).total);
      assert.deepEqual(run.volume.reservations("a"), []);
    }),
    cases(150),
  );
});
