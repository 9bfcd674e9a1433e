import { FamfsError } from "../base/index.ts";
import type { VolumeCapability__Output } from "./gen/csi/v1/VolumeCapability.ts";
import { seLinuxContextIn } from "./selinux-context.ts";

/** The access modes of CSI, in its words (design 6 says what each means here). */
export const ACCESS_MODES = [
  "SINGLE_NODE_WRITER",
  "SINGLE_NODE_READER_ONLY",
  "MULTI_NODE_READER_ONLY",
  "MULTI_NODE_SINGLE_WRITER",
  "MULTI_NODE_MULTI_WRITER",
  "SINGLE_NODE_SINGLE_WRITER",
  "SINGLE_NODE_MULTI_WRITER",
] as const;
export type AccessMode = (typeof ACCESS_MODES)[number];

interface AccessModeRules {
  /** May be attached to more than one node at once. */
  readonly multiNode: boolean;
  /** Nobody writes. */
  readonly readOnly: boolean;
  /** "one": a single node holds the writer grant while attached; "moving": the grant goes to whoever asks. */
  readonly writer: "none" | "one" | "moving";
  /** At most one target path at a time. */
  readonly singlePath: boolean;
}

const SINGLE_WRITER = { multiNode: false, readOnly: false, writer: "one", singlePath: false } as const;

export const ACCESS_MODE_RULES: Readonly<Record<AccessMode, AccessModeRules>> = {
  SINGLE_NODE_WRITER: SINGLE_WRITER,
  SINGLE_NODE_READER_ONLY: { multiNode: false, readOnly: true, writer: "none", singlePath: false },
  MULTI_NODE_READER_ONLY: { multiNode: true, readOnly: true, writer: "none", singlePath: false },
  MULTI_NODE_SINGLE_WRITER: { multiNode: true, readOnly: false, writer: "one", singlePath: false },
  MULTI_NODE_MULTI_WRITER: { multiNode: true, readOnly: false, writer: "moving", singlePath: false },
  SINGLE_NODE_SINGLE_WRITER: { ...SINGLE_WRITER, singlePath: true },
  SINGLE_NODE_MULTI_WRITER: SINGLE_WRITER,
};

/** The one file system type there is; empty means it. */
const FS_TYPE = "famfs";

/** Mount options that a claim, class or pod may ask for. They apply to the bind mount, on top of ours. */
export const MOUNT_FLAGS = [
  "ro",
  "rw",
  "noexec",
  "exec",
  "nosuid",
  "nodev",
  "noatime",
  "nodiratime",
  "relatime",
] as const;
export type MountFlag = (typeof MOUNT_FLAGS)[number];

/** A checked VolumeCapability. */
export interface Capability {
  readonly accessMode: AccessMode;
  readonly rules: AccessModeRules;
  readonly mountFlags: readonly MountFlag[];
  /**
   * The SELinux label that everything on the volume is to have (mount flag `context=`): of the mount, not of a bind.
   */
  readonly seLinuxContext: string | undefined;
  /** The gid files should belong to (a pod's fsGroup). */
  readonly mountGroup: number | undefined;
}

/** CSI bans control characters in names and ids, tab and newlines excepted. */
const CONTROL_CHARACTER = /(?![\t\n\r])\p{Cc}/u;

/** A string that must be there. INVALID_ARGUMENT names `field` as CSI writes it. */
export function requireField(value: string, field: string): string {
  if (value === "") throw new FamfsError("INVALID_ARGUMENT", `${field} is missing`);
  if (CONTROL_CHARACTER.test(value)) {
    throw new FamfsError("INVALID_ARGUMENT", `${field} contains control characters`);
  }
  return value;
}

/** A path from the CO: absolute, without `..`, NUL or other control characters. */
export function requirePath(value: string, field: string): string {
  requireField(value, field);
  if (!value.startsWith("/") || value.split("/").includes("..")) {
    throw new FamfsError("INVALID_ARGUMENT", `${field} "${value}" must be an absolute path without ".."`);
  }
  return value.length > 1 ? value.replace(/\/+$/, "") || "/" : value;
}

/**
 * INVALID_ARGUMENT when it is missing, asks for a block device, or for something that no mode, type or flag of ours is.
 */
export function parseCapability(capability: VolumeCapability__Output | null, field = "volume_capability"): Capability {
  if (capability === null) throw new FamfsError("INVALID_ARGUMENT", `${field} is missing`);
  if (capability.accessType === "block") {
    throw new FamfsError("INVALID_ARGUMENT", `${field}: block volumes are not supported, famfs volumes are mounted`);
  }
  const mount = capability.mount;
  if (capability.accessType !== "mount" || !mount) {
    throw new FamfsError("INVALID_ARGUMENT", `${field}: access_type is missing`);
  }
  const mode: string | number = capability.accessMode?.mode ?? "UNKNOWN";
  const accessMode = ACCESS_MODES.find((known) => known === mode);
  if (accessMode === undefined) {
    throw new FamfsError("INVALID_ARGUMENT", `${field}: access_mode ${mode} is missing or unknown`);
  }
  if (mount.fsType !== "" && mount.fsType !== FS_TYPE) {
    throw new FamfsError("INVALID_ARGUMENT", `${field}: fs_type "${mount.fsType}" is not served, only "${FS_TYPE}" is`);
  }
  return {
    accessMode,
    rules: ACCESS_MODE_RULES[accessMode],
    ...parseMountFlags(mount.mountFlags, field),
    mountGroup: parseGid(mount.volumeMountGroup, field),
  };
}

/** At least one capability, each checked. */
export function parseCapabilities(capabilities: readonly VolumeCapability__Output[]): Capability[] {
  if (capabilities.length === 0) throw new FamfsError("INVALID_ARGUMENT", "volume_capabilities is missing");
  return capabilities.map((capability, index) => parseCapability(capability, `volume_capabilities[${index}]`));
}

function parseMountFlags(flags: readonly string[], field: string): Pick<Capability, "mountFlags" | "seLinuxContext"> {
  const contexts = new Set(flags.map(seLinuxContextIn).filter((context) => context !== undefined));
  if (contexts.size > 1) {
    throw new FamfsError("INVALID_ARGUMENT", `${field}: two SELinux contexts, ${[...contexts].join(" and ")}`);
  }
  const others = flags.filter((flag) => seLinuxContextIn(flag) === undefined).flatMap((some) => some.split(","));
  const [seLinuxContext] = contexts;
  return { mountFlags: others.map((flag) => parseMountFlag(flag, field)), seLinuxContext };
}

function parseMountFlag(text: string, field: string): MountFlag {
  const flag = MOUNT_FLAGS.find((known) => known === text);
  if (flag === undefined) {
    throw new FamfsError(
      "INVALID_ARGUMENT",
      `${field}: mount flag "${text}" is unknown; known: ${MOUNT_FLAGS.join(", ")}, context="LABEL"`,
    );
  }
  return flag;
}

function parseGid(text: string, field: string): number | undefined {
  if (text === "") return undefined;
  // 2^32 - 1 is "no group" to the kernel.
  if (!/^\d{1,10}$/.test(text) || Number(text) >= 0xffffffff) {
    throw new FamfsError("INVALID_ARGUMENT", `${field}: volume_mount_group "${text}" is not a group id`);
  }
  return Number(text);
}

/** An int64 byte count of a request as a number. INVALID_ARGUMENT when negative or beyond 2^53 - 1. */
export function parseBytes(value: bigint, field: string): number {
  if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new FamfsError(
      "INVALID_ARGUMENT",
      `${field} is ${value}, it must be between 0 and ${Number.MAX_SAFE_INTEGER}`,
    );
  }
  return Number(value);
}
