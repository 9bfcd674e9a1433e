import {
  type DeviceLabel,
  hasLabelSuperblock,
  inspectDeviceLabel,
  inspectSuperblock,
  inspectVolumeRecord,
  VOLUME_RECORD_OFFSET,
} from "../format/index.ts";

/** What a device holds, so that nothing is overwritten by mistake. */
export type DeviceContents =
  | { readonly type: "blank" }
  | { readonly type: "label"; readonly label: DeviceLabel }
  /** A file system of ours or of the stock tools over the whole device; `uuid` unless the version is another. */
  | {
      readonly type: "famfs";
      readonly version: bigint;
      readonly uuid: string | undefined;
      readonly extended: boolean;
    }
  | { readonly type: "other"; readonly description: string };

/** How much of the start and the end `describeContents` looks at. */
export const HEAD_LENGTH = 2 * 2 ** 20;
export const TAIL_LENGTH = 4096;

const MAGICS: readonly { readonly at: number; readonly bytes: string; readonly what: string }[] = [
  { at: 512, bytes: "EFI PART", what: "a GPT partition table" },
  { at: 4096, bytes: "EFI PART", what: "a GPT partition table" },
  { at: 1080, bytes: "\x53\xef", what: "an ext2, ext3 or ext4 file system" },
  { at: 0, bytes: "XFSB", what: "an XFS file system" },
  { at: 65600, bytes: "_BHRfS_M", what: "a Btrfs file system" },
  { at: 1024, bytes: "\xe2\xe1\xf5\xe0", what: "an EROFS file system" },
  { at: 1024, bytes: "\x10\x20\xf5\xf2", what: "an F2FS file system" },
  { at: 0, bytes: "hsqs", what: "a SquashFS file system" },
  { at: 3, bytes: "NTFS    ", what: "an NTFS file system" },
  { at: 82, bytes: "FAT32   ", what: "a FAT file system" },
  { at: 54, bytes: "FAT1", what: "a FAT file system" },
  { at: 0, bytes: "LUKS\xba\xbe", what: "a LUKS container" },
  { at: 512, bytes: "LABELONE", what: "an LVM physical volume" },
  { at: 4096, bytes: "\xfc\x4e\x2b\xa9", what: "a Linux RAID member" },
  { at: 4086, bytes: "SWAPSPACE2", what: "swap space" },
  { at: 0, bytes: "NAMESPACE_INDEX\0", what: "NVDIMM namespace labels" },
  { at: 510, bytes: "\x55\xaa", what: "an MBR partition table" },
];

/** `head` begins at device offset 0, `tail` is the end. Never throws. */
export function describeContents(head: Uint8Array, tail: Uint8Array): DeviceContents {
  if (hasLabelSuperblock(head)) {
    const { value: label, findings } = inspectDeviceLabel(head);
    return label !== undefined
      ? { type: "label", label }
      : { type: "other", description: `a damaged ${findings[0]?.message ?? "device label"}` };
  }
  const superblock = inspectSuperblock(head);
  if (superblock.value !== undefined) {
    const { version, uuid } = superblock.value;
    return {
      type: "famfs",
      version: BigInt(version),
      uuid,
      extended: inspectVolumeRecord(head, VOLUME_RECORD_OFFSET, uuid).value !== undefined,
    };
  }
  const [finding] = superblock.findings;
  if (finding?.code === "SUPERBLOCK_VERSION") {
    const version = new DataView(head.buffer, head.byteOffset).getBigUint64(8, true);
    return { type: "famfs", version, uuid: undefined, extended: false };
  }
  for (const { at, bytes, what } of MAGICS) {
    if (Buffer.from(head.buffer, head.byteOffset + at, bytes.length).toString("latin1") === bytes) {
      return { type: "other", description: what };
    }
  }
  const used = head.findIndex((byte) => byte !== 0);
  if (used >= 0) return { type: "other", description: `unknown data (first byte that is not zero at ${used})` };
  if (tail.some((byte) => byte !== 0)) return { type: "other", description: "unknown data (at its end)" };
  return { type: "blank" };
}

/** For messages: "is blank", "holds an XFS file system". */
export function showContents(contents: DeviceContents): string {
  switch (contents.type) {
    case "blank":
      return "is blank";
    case "label":
      return `carries the label of device ${contents.label.uuid} of pool "${contents.label.pool}"`;
    case "famfs":
      return contents.uuid === undefined
        ? `holds a famfs file system of version ${contents.version}, which this program does not know`
        : `holds the famfs ${contents.extended ? "volume" : "file system"} ${contents.uuid}`;
    case "other":
      return `holds ${contents.description}`;
  }
}
