import { FamfsError, type Logger, messageOf, type RequestContext } from "../base/index.ts";
import { ERRNO, errnoOf, isDefect } from "./errno.ts";
import type { FileHandle, FileHandles } from "./file-handles.ts";
import type { FileMapTable } from "./file-map.ts";
import type { InitFlag } from "./flags.ts";
import type { Handler } from "./handler.ts";
import { HANDLERS } from "./handlers.ts";
import type { HeldBytes } from "./held-bytes.ts";
import { Notifications } from "./kernel-caches.ts";
import type { MapMemory } from "./map-memory.ts";
import { type KernelFacts, MAX_WRITE, negotiate } from "./negotiate.ts";
import type { Opcode } from "./opcode.ts";
import type { Attributes, Entry, KernelCaches, Missing, Opened, Operations } from "./operations.ts";
import { PendingRequest } from "./pending-request.ts";
import type { ReplyWriter } from "./reply.ts";
import { parseRequest, type Request, readSize, requestKey, showRequest } from "./request.ts";
import type { ServedConnection } from "./served-connection.ts";
import { clearingChange, SetIdFiles } from "./set-id.ts";
import { type DataCounts, errnoName, type OpcodeCounts, type SessionStats } from "./stats.ts";
import type { Transport } from "./transport.ts";

/**
 * A request that still waits this long after its INTERRUPT is aborted. The kernel sends INTERRUPT for any signal, and
 * some runtimes signal their own threads all the time: an operation that is nearly done goes on.
 */
const INTERRUPT_GRACE_MS = 50;

const XATTR_READERS: ReadonlySet<Opcode> = new Set(["GETXATTR", "LISTXATTR"]);

export interface SessionOptions {
  /** The mount has default_permissions and may be ID-mapped. */
  readonly idmap?: boolean;
  /**
   * Extended attributes can be read. Otherwise the kernel is told so once (ENOSYS) and answers EOPNOTSUPP itself, which
   * saves a request for each new file that is written and two for each line of `ls -l`. Setting them is not affected.
   */
  readonly readableXattrs?: boolean;
  /** INIT flags that are not asked for: what an older kernel lacks. */
  readonly withhold?: readonly InitFlag[];
  /** What the predecessor of this process negotiated: INIT is not awaited, and requests it took are sent again. */
  readonly resume?: KernelFacts;
  /** Called with a line for each request the main thread serves. */
  readonly trace?: (line: string) => void;
}

export interface SessionParts {
  readonly connection: number;
  readonly transport: Transport;
  readonly operations: Operations;
  readonly options: SessionOptions;
  readonly fileMaps: FileMapTable;
  readonly handles: FileHandles;
  readonly memory: MapMemory;
  /** Shared by all sessions of the server. */
  readonly held: HeldBytes;
  /** Shared by all sessions: replies are built and sent without an await in between. */
  readonly reply: ReplyWriter;
  readonly logger: Logger;
  /** READ and WRITE as the workers counted them. */
  readonly workerCounts: () => DataCounts;
}

interface Pending {
  readonly request: Request;
  readonly by: PendingRequest;
}

/** One FUSE connection: one mount of one volume. Made by `FuseServer.attach`. */
export class Session implements ServedConnection {
  readonly caches: KernelCaches;
  readonly fileMaps: FileMapTable;
  readonly operations: Operations;
  readonly maxWrite = MAX_WRITE;
  /** Resolves when the connection is over: unmounted, aborted or detached. */
  readonly ended: Promise<void>;
  readonly #parts: SessionParts;
  readonly #ready = Promise.withResolvers<KernelFacts>();
  readonly #over = Promise.withResolvers<void>();
  readonly #pending = new Map<number, Pending>();
  readonly #setId = new SetIdFiles();
  readonly #counts = new Map<Opcode, { requests: number; bytes: number; errors: number }>();
  readonly #errnos = new Map<number, number>();
  #kernel: KernelFacts | undefined;
  #isOver = false;

  constructor(parts: SessionParts) {
    this.#parts = parts;
    this.operations = parts.operations;
    this.fileMaps = parts.fileMaps;
    this.caches = new Notifications({
      transport: parts.transport,
      minor: () => this.#kernel?.minor ?? 0,
      lost: (error) => this.#endStale(error),
    });
    this.ended = this.#over.promise;
    this.#ready.promise.catch(() => {}); // whoever awaits `ready` sees it
    if (parts.options.resume !== undefined) this.#agree(parts.options.resume);
  }

  /** What was agreed at INIT. */
  get ready(): Promise<KernelFacts> {
    return this.#ready.promise;
  }

  get kernel(): KernelFacts {
    if (this.#kernel === undefined) throw new FamfsError("INTERNAL", "INIT has not been answered yet");
    return this.#kernel;
  }

  stats(): SessionStats {
    const opcodes: Record<string, OpcodeCounts> = {};
    for (const [name, counts] of this.#counts) opcodes[name] = { ...counts };
    const { errnos: workerErrnos, ...data } = this.#parts.workerCounts();
    for (const [name, counts] of Object.entries(data)) {
      const own = opcodes[name]; // what workers passed on
      opcodes[name] = own === undefined ? counts : addCounts(own, counts);
    }
    const errnos: Record<string, number> = {};
    for (const [errno, count] of [...this.#errnos, ...workerErrnos]) {
      const name = errnoName(errno);
      errnos[name] = (errnos[name] ?? 0) + count;
    }
    return { opcodes, errnos, memoryErrors: workerErrnos.get(ERRNO.EIO) ?? 0, pending: this.#pending.size };
  }

  /**
   * Stops serving. Requests that still wait are answered with ENOTCONN, as the kernel answers later ones when the last
   * holder of the descriptor has closed it. The operations' own handles are left as they are: they are closed with
   * them.
   */
  detach(): void {
    for (const { request } of this.#pending.values()) this.#refuse(request, ERRNO.ENOTCONN);
    this.#finish(new FamfsError("CANCELLED", "the session was detached"));
    for (const handle of this.#parts.handles.of(this.#parts.connection)) this.closeFile(handle);
  }

  // ---- the transport's side ----

  /** One whole request; never throws. `bytes` may be reused afterwards. */
  receive(bytes: Uint8Array): void {
    const request = parseRequest(bytes);
    if ("refused" in request) {
      const { refused, opcode, errno, uniqueLow, uniqueHigh } = request;
      this.#parts.logger.warn({ opcode, errno }, `refused a request: ${refused}`);
      this.#countErrno(ERRNO[errno]);
      if (uniqueLow !== 0 || uniqueHigh !== 0) this.#sendError(uniqueLow, uniqueHigh, ERRNO[errno]);
      return;
    }
    this.#count(request.name, "requests");
    this.#parts.options.trace?.(showRequest(request));
    try {
      if (request.name === "INIT") this.#init(request);
      else if (request.name === "INTERRUPT") this.#interrupt(request);
      else this.#serve(request);
    } catch (error) {
      this.#fail(request, error);
    }
  }

  /** The kernel ended the connection: nobody can use its open files any more. */
  end(errno: number): void {
    if (this.#isOver) return;
    this.#parts.logger.info({ errno }, "the connection has ended");
    this.#finish(new FamfsError("CANCELLED", "the connection has ended"));
    for (const handle of this.#parts.handles.of(this.#parts.connection)) {
      this.closeFile(handle);
      this.background("release at the end of the connection", () => this.operations.release(handle.opened.handle));
    }
  }

  /** What still waits is not carried out. */
  /** What the kernel caches would be served for ever: rather nothing at all (ENOTCONN). */
  #endStale(error: unknown): void {
    if (this.#isOver) return;
    this.#parts.logger.error({ err: error }, "the kernel cannot be told what to forget: the connection is ended");
    this.end(ERRNO.EIO);
  }

  #finish(reason: FamfsError): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#ready.reject(reason);
    const waiting = [...this.#pending.values()];
    this.#pending.clear();
    for (const { by } of waiting) {
      by.over();
      by.abort(reason);
    }
    this.#parts.transport.close();
    this.#over.resolve();
  }

  // ---- requests ----

  #serve(request: Request): void {
    const row = HANDLERS[request.name];
    if ("ignored" in row) return;
    if (this.#kernel === undefined) throw new FamfsError("INVALID_ARGUMENT", `${request.name} before INIT`);
    const unreadable = this.#parts.options.readableXattrs !== true && XATTR_READERS.has(request.name);
    if ("errno" in row || unreadable) {
      this.#refuse(request, "errno" in row ? ERRNO[row.errno] : ERRNO.ENOSYS);
      return;
    }
    const { held, connection } = this.#parts;
    const bytes = request.name === "WRITE" ? request.bytes.byteLength : 0;
    const by = new PendingRequest(request.caller, { held, connection, bytes });
    const answer = row.run(this, request, by);
    if (answer instanceof Promise) this.#await({ request, by }, row, answer);
    else this.#answer(request, row, answer);
  }

  #await(pending: Pending, row: Handler, answer: Promise<unknown>): void {
    const { request, by } = pending;
    const key = requestKey(request.uniqueLow, request.uniqueHigh);
    this.#pending.set(key, pending);
    const isLate = () => {
      by.over();
      if (this.#pending.get(key) !== pending) return true;
      this.#pending.delete(key);
      return false;
    };
    answer.then(
      (value) => {
        if (isLate()) row.discard?.(this, value, request);
        else this.#answer(request, row, value);
      },
      (error: unknown) => {
        if (isLate()) this.#parts.logger.debug({ opcode: request.name }, `failed late: ${messageOf(error)}`);
        else this.#fail(request, error);
      },
    );
  }

  #answer(request: Request, row: Handler, value: unknown): void {
    if (request.row.reply === "never") return;
    const { reply, transport } = this.#parts;
    try {
      reply.start();
      row.write?.(reply, value, request, this);
      const expected = request.row.reply;
      if (typeof expected === "object" && reply.bodyLength !== expected.size) {
        throw new FamfsError(
          "INTERNAL",
          `${request.name} is answered with ${expected.size} bytes, not ${reply.bodyLength}`,
        );
      }
    } catch (error) {
      row.discard?.(this, value, request);
      this.#fail(request, error);
      return;
    }
    const delivered = transport.send(reply.bytes, reply.finish(request.uniqueLow, request.uniqueHigh, 0));
    if (!delivered) row.discard?.(this, value, request);
  }

  #fail(request: Request, error: unknown): void {
    if (isDefect(error)) {
      const stack = error instanceof Error ? error.stack : String(error);
      this.#parts.logger.error(
        { opcode: request.name, nodeid: request.nodeid, stack },
        "a request failed unexpectedly",
      );
    }
    this.#refuse(request, errnoOf(error));
  }

  /** Counts the error, and answers with it where the kernel waits for an answer. */
  #refuse(request: Request, errno: number): void {
    this.#count(request.name, "errors");
    this.#countErrno(errno);
    if (request.row.reply !== "never") this.#sendError(request.uniqueLow, request.uniqueHigh, errno);
  }

  #sendError(uniqueLow: number, uniqueHigh: number, errno: number): void {
    const { reply, transport } = this.#parts;
    transport.send(reply.bytes, reply.finish(uniqueLow, uniqueHigh, errno));
  }

  #init(request: Request): void {
    const { facts, reply: body } = negotiate(request.bytes, {
      idmap: this.#parts.options.idmap === true,
      withhold: this.#parts.options.withhold ?? [],
    });
    const { reply, transport } = this.#parts;
    reply.start();
    reply.data(body);
    transport.send(reply.bytes, reply.finish(request.uniqueLow, request.uniqueHigh, 0));
    if (facts !== undefined) this.#agree(facts);
  }

  #agree(facts: KernelFacts): void {
    this.#kernel = facts;
    this.#ready.resolve(facts);
  }

  #interrupt(request: Request): void {
    const key = readSize(request.view, 0);
    const pending = this.#pending.get(key);
    if (pending === undefined) {
      // Answered already (then the kernel finds nothing), or still on its way here: EAGAIN brings it back.
      this.#sendError(request.uniqueLow, request.uniqueHigh, ERRNO.EAGAIN);
      return;
    }
    pending.by.interrupt(INTERRUPT_GRACE_MS);
  }

  #count(name: Opcode, what: "requests" | "bytes" | "errors", by = 1): void {
    let counts = this.#counts.get(name);
    if (counts === undefined) {
      counts = { requests: 0, bytes: 0, errors: 0 };
      this.#counts.set(name, counts);
    }
    counts[what] += by;
  }

  #countErrno(errno: number): void {
    this.#errnos.set(errno, (this.#errnos.get(errno) ?? 0) + 1);
  }

  // ---- what handlers ask (ServedConnection) ----

  handleAt(view: DataView, at: number): FileHandle {
    return this.#parts.handles.resolve(this.#parts.connection, view.getUint32(at, true), view.getUint32(at + 4, true));
  }

  openFile(nodeid: number, opened: Opened): FileHandle {
    return this.#parts.handles.open(this.#parts.connection, nodeid, opened, this.#setId.has(nodeid));
  }

  closeFile(handle: FileHandle): void {
    this.#parts.handles.close(handle);
  }

  forgetOpened(nodeid: number, opened: Opened): void {
    for (const handle of this.#parts.handles.of(this.#parts.connection, nodeid)) {
      if (handle.opened === opened) this.closeFile(handle);
    }
  }

  learn(attributes: Attributes): void {
    if (!this.#setId.learn(attributes)) return;
    const on = this.#setId.has(attributes.nodeid);
    for (const handle of this.#parts.handles.of(this.#parts.connection, attributes.nodeid)) {
      this.#parts.handles.setSetId(handle, on);
    }
  }

  learnEntry(entry: Entry | Missing): void {
    if (!("attributes" in entry)) return;
    this.learn(entry.attributes);
    this.operations.looked(entry.attributes.nodeid);
  }

  mustClearSetId(nodeid: number, valid: number): boolean {
    return this.#setId.mustClear(nodeid, valid);
  }

  clearSetId(nodeid: number, by: RequestContext): Promise<void> | undefined {
    return this.#setId.has(nodeid) ? this.#clearSetId(nodeid, by) : undefined;
  }

  async #clearSetId(nodeid: number, { signal, budget }: RequestContext): Promise<void> {
    // The kernel acts for itself here, not for the writer, who need not own the file.
    const kernel = { caller: { uid: 0, gid: 0, pid: 0 }, signal, budget };
    const attributes = await this.operations.getAttributes(nodeid, undefined, kernel);
    const change = clearingChange(attributes);
    if (change === undefined) return;
    this.learn(await this.operations.setAttributes(nodeid, change, kernel));
    // Answers to WRITE, OPEN and FALLOCATE carry no attributes: the kernel would go on with the bits.
    this.caches.forgetAttributes(nodeid);
  }

  read(handle: FileHandle, offset: number, target: Uint8Array): number {
    const length = this.#parts.memory.read(handle, offset, target);
    this.#count("READ", "bytes", length);
    return length;
  }

  hold(bytes: number): Disposable {
    return this.#parts.held.hold(this.#parts.connection, bytes);
  }

  write(handle: FileHandle, offset: number, data: Uint8Array): void {
    this.#parts.memory.write(handle, offset, data);
    this.#count("WRITE", "bytes", data.byteLength);
  }

  background(what: string, work: () => void | Promise<void>): void {
    const report = (error: unknown) => this.#parts.logger.error({ error: messageOf(error) }, `${what} failed`);
    try {
      Promise.resolve(work()).catch(report);
    } catch (error) {
      report(error);
    }
  }
}

function addCounts(a: OpcodeCounts, b: OpcodeCounts): OpcodeCounts {
  return { requests: a.requests + b.requests, bytes: a.bytes + b.bytes, errors: a.errors + b.errors };
}
