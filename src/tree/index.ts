export {
  alwaysMine,
  chooseSlot,
  type OpenVolumeOptions,
  openVolumeTree,
  type WriterTermsSource,
} from "./open-volume.ts";
export { DEFAULT_SETTINGS, type TreeSettings, type VolumeTreeOptions } from "./options.ts";
export type * from "./ports.ts";
export { type ListedEntry, type NodeEntry, VolumeTree } from "./volume-tree.ts";
