/** What log entries say (format 3.3, 6; docs/format-extensions.md), without their place in the log. */

import type { Extent } from "../base/index.ts";

/** Nanoseconds are 0 to 999,999,999; seconds may be negative (before 1970). */
export interface Time {
  readonly seconds: number;
  readonly nanoseconds: number;
}

/** An extent of a daxdev; index 0 is the volume's primary region. */
export interface DeviceExtent extends Extent {
  readonly devindex: number;
}

/** How file offsets become device offsets (format 6.4, 6.5). */
export type Layout =
  | { readonly type: "simple"; readonly extents: readonly DeviceExtent[] }
  | { readonly type: "interleaved"; readonly chunkSize: number; readonly strips: readonly DeviceExtent[] };

/** A name in a directory. `parent` is the log index that made the directory, ROOT_INDEX for the root. */
export interface Link {
  readonly parent: number;
  /** 1 to 255 bytes, one char per byte, never "." or "..", no "/" and no NUL. */
  readonly name: string;
}

export const ROOT_INDEX = -1;

export interface FileEntry {
  readonly type: "file";
  /** Relative to the root in the names stock tools see, at most 78 bytes. */
  readonly path: string;
  /** Exact; never 0. */
  readonly size: number;
  /** `fm_flags`; stock writes 2. */
  readonly flags: number;
  readonly uid: number;
  readonly gid: number;
  /** Permission bits. */
  readonly mode: number;
  readonly layout: Layout;
  /** The trailer of extended volumes; absent in stock entries. */
  readonly mtime?: Time;
}

export interface MkdirEntry {
  readonly type: "mkdir";
  readonly path: string;
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
  readonly mtime?: Time;
}

/** No tool writes it and replay ignores it; it has no payload (format 3.3). */
export interface DeleteEntry {
  readonly type: "delete";
}

export interface AddDaxdevEntry {
  readonly type: "addDaxdev";
  readonly size: number;
  /** With dashes. */
  readonly uuid: string;
  readonly index: number;
}

export interface InvalidEntry {
  readonly type: "invalid";
}

/**
 * Extension: gives the node that entry `target` made a new place and new attributes in one step. The node that had
 * the place is removed. Without `link` the node is removed for good; only for the root (target ROOT_INDEX) that
 * means "attributes only".
 */
export interface RelinkEntry {
  readonly type: "relink";
  readonly target: number;
  readonly link: Link | undefined;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Absent: not recorded (a node of an adopted volume keeps that). */
  readonly mtime: Time | undefined;
}

/**
 * Extension: what FILE cannot say. A new empty file or symlink at `link`, replacing what is there; without `link`
 * it is born detached and a RELINK places it (a symlink whose name and target do not fit one entry).
 */
export interface NodeEntry {
  readonly type: "node";
  readonly kind: "file" | "symlink";
  readonly link: Link | undefined;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: Time | undefined;
  /** Of a symlink: 1 byte or more; empty for a file. */
  readonly symlinkTarget: string;
}

/** Most entries that one counter update publishes. */
export const MAX_TRANSACTION = 8;

/**
 * Entries of a run of fillers. Three more than a transaction, because entries share cache lines, and a late line tears
 * what shares it: that of a late transaction the ninth, so the tenth is whole and speaks for the run; and that of a
 * late tenth, of a taker that lost the log in turn, the eleventh.
 */
export const FILLER_RUN = MAX_TRANSACTION + 3;

/** The one of a run that is stored first. */
export const SPEAKING_FILLER = FILLER_RUN - 2;

/** What the first programs wrote; such runs count as they are. */
export const FORMER_FILLER_RUN = MAX_TRANSACTION + 1;

/**
 * Extension: what a taker writes before anything else when the old owner did not release. The one transaction that the
 * old owner may still be writing falls into the run. Nothing in [first, first + run) is ever applied, whatever
 * it is, as long as one filler there says so that lies in no run that begins later; and readers go past next_index when
 * the entry there belongs to a run, because a late store of the old owner may have lowered it.
 */
export interface FillerEntry {
  readonly type: "filler";
  /** Index of the first of this run of fillers. */
  readonly first: number;
  /** Entries of the run: at most FILLER_RUN. */
  readonly run: number;
  /**
   * 0 but in those of the first programs, as is the hash: takers whose runs begin at one place store the same bytes.
   */
  readonly epoch: number;
  /** 16 hex digits. */
  readonly nodeIdHash: string;
}

/** A type nobody here knows; `payload` is what it carries (520 bytes). Ignored by replay. */
export interface UnknownEntry {
  readonly type: "unknown";
  readonly code: number;
  readonly payload: Uint8Array;
}

export type LogEntry =
  | FileEntry
  | MkdirEntry
  | DeleteEntry
  | AddDaxdevEntry
  | InvalidEntry
  | RelinkEntry
  | NodeEntry
  | FillerEntry
  | UnknownEntry;
