import { type Caller, FamfsError } from "../base/index.ts";
import { OPCODE_NAMES, OPCODES, type Opcode, type OpcodeRow } from "./opcode.ts";
import { InHeader } from "./wire.ts";

const at = InHeader.offsets;

/** Bit 63 of `unique` marks a request that the kernel sends a second time (fuse II.1). */
const RESENT = 0x8000_0000;

/**
 * A parsed request. Names and numbers may be kept; `bytes` is a view of the receive buffer and valid only until the
 * handler returns or first awaits.
 */
export interface Request {
  readonly name: Opcode;
  readonly row: OpcodeRow;
  readonly uniqueLow: number;
  readonly uniqueHigh: number;
  readonly nodeid: number;
  readonly caller: Caller;
  /** Body: from the fixed part to the end of the data, extensions cut off. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly names: readonly string[];
  /** Where the data starts in `bytes`. */
  readonly dataAt: number;
}

/** A request that cannot be served, with what is known of it; `unique` 0 when there is nobody to answer. */
export interface Refused {
  readonly refused: string;
  readonly opcode: number;
  readonly errno: "ENOSYS" | "EINVAL";
  readonly uniqueLow: number;
  readonly uniqueHigh: number;
}

export function isResent(uniqueHigh: number): boolean {
  return uniqueHigh >= RESENT;
}

/** One number per request, the same for a request and its re-sent copy. Kernel ids stay far below 2^53. */
export function requestKey(uniqueLow: number, uniqueHigh: number): number {
  return (uniqueHigh % RESENT) * 2 ** 32 + uniqueLow;
}

/**
 * A u64 field that says where in a file, or how long it is to be. Beyond 2^53 - 1 it is inexact, but there are no bytes
 * of any file: reads find its end there, and what would make a file as long is refused (EFBIG).
 */
export function readPosition(view: DataView, offset: number): number {
  return view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 2 ** 32;
}

/** A u64 field that must be a safe integer: our own nodeids and cookies. Throws INVALID_ARGUMENT. */
export function readSize(view: DataView, offset: number): number {
  const value = readPosition(view, offset);
  if (!Number.isSafeInteger(value)) {
    throw new FamfsError("INVALID_ARGUMENT", `${value} in a request is beyond 2^53 - 1`);
  }
  return value;
}

/** A signed 64-bit field, e.g. seconds; clamped to what a double holds exactly. */
export function readSigned(view: DataView, offset: number): number {
  const value = view.getUint32(offset, true) + view.getInt32(offset + 4, true) * 2 ** 32;
  return Math.max(Number.MIN_SAFE_INTEGER, Math.min(Number.MAX_SAFE_INTEGER, value));
}

/** Checks one whole request as it came from the kernel. */
export function parseRequest(buffer: Uint8Array): Request | Refused {
  const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  if (buffer.byteLength < InHeader.size) return refuse(0, 0, 0, "EINVAL", `${buffer.byteLength} bytes are no request`);
  const opcode = view.getUint32(at.opcode, true);
  const uniqueLow = view.getUint32(at.unique, true);
  const uniqueHigh = view.getUint32(at.unique + 4, true);
  const name = OPCODE_NAMES[opcode];
  if (name === undefined) return refuse(opcode, uniqueLow, uniqueHigh, "ENOSYS", `opcode ${opcode} is unknown`);
  const row: OpcodeRow = OPCODES[name];
  const malformed = (why: string) => {
    const answered = row.reply !== "never";
    return refuse(opcode, answered ? uniqueLow : 0, answered ? uniqueHigh : 0, "EINVAL", `${name}: ${why}`);
  };

  const length = view.getUint32(at.len, true);
  if (length !== buffer.byteLength) return malformed(`header says ${length} bytes, ${buffer.byteLength} came`);
  const end = length - view.getUint16(at.total_extlen, true) * 8;
  const fixed = row.in?.size ?? 0;
  if (end < InHeader.size + fixed) return malformed(`${end - InHeader.size} bytes, ${fixed} expected`);
  const nodeidHigh = view.getUint32(at.nodeid + 4, true);
  if (nodeidHigh >= 2 ** 21) return malformed("nodeid beyond 2^53 - 1");

  const bytes = buffer.subarray(InHeader.size, end);
  const names: string[] = [];
  let dataAt = fixed;
  for (let index = 0; index < row.names; index++) {
    const stop = bytes.indexOf(0, dataAt);
    if (stop <= dataAt) return malformed(stop < 0 ? "a name without end" : "an empty name");
    names.push(latin1(bytes, dataAt, stop));
    dataAt = stop + 1;
  }
  if (!row.data && dataAt !== bytes.byteLength) return malformed(`${bytes.byteLength - dataAt} bytes too many`);
  return {
    name,
    row,
    uniqueLow,
    uniqueHigh,
    nodeid: view.getUint32(at.nodeid, true) + nodeidHigh * 2 ** 32,
    caller: { uid: view.getUint32(at.uid, true), gid: view.getUint32(at.gid, true), pid: view.getUint32(at.pid, true) },
    bytes,
    view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength),
    names,
    dataAt,
  };
}

/** One line for debug logs. */
export function showRequest(request: Request): string {
  const fixed = request.row.in === undefined ? "" : ` ${request.row.in.show(request.row.in.decode(request.bytes))}`;
  const names = request.names.map((name) => ` ${JSON.stringify(name)}`).join("");
  const unique = requestKey(request.uniqueLow, request.uniqueHigh);
  const again = isResent(request.uniqueHigh) ? " (again)" : "";
  return `${request.name} #${unique}${again} node ${request.nodeid} pid ${request.caller.pid}${fixed}${names}`;
}

function refuse(
  opcode: number,
  uniqueLow: number,
  uniqueHigh: number,
  errno: Refused["errno"],
  refused: string,
): Refused {
  return { refused, opcode, errno, uniqueLow, uniqueHigh };
}

function latin1(bytes: Uint8Array, from: number, to: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + from, to - from).toString("latin1");
}
