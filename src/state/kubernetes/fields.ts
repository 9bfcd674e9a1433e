import type { Condition, FamfsDevice, FamfsVolume } from "../records.ts";

/**
 * How the fields of a record are laid out in its custom resource: `spec` is what was decided when it was made, `status`
 * what became of it. Both are written together (docs/decisions/0004). A new field does not compile until it has its
 * place here.
 */
export interface Field {
  readonly part: "spec" | "status";
  readonly description: string;
}

export type Fields<R> = { readonly [Name in keyof R]: Field };

const spec = (description: string): Field => ({ part: "spec", description });
const status = (description: string): Field => ({ part: "status", description });

export const VOLUME_FIELDS: Fields<FamfsVolume> = {
  csiName: spec("The name that CreateVolume was called with: pvc-… for a dynamically provisioned volume."),
  uuid: spec("UUID of the volume record in memory; of an adopted volume, of its superblock."),
  claim: spec("The claim that it was made for."),
  adopted: spec("True for a whole device that the stock tools formatted; the driver never formats or erases it."),
  capacityBytes: spec("What the claim gets; its region is larger by superblock, log and rounding."),
  parameters: spec("The parameters of the StorageClass that were given, checked."),
  pool: status("The pool of the device that holds its regions; empty until they are given."),
  fabric: status("The fabric whose nodes reach it; empty until regions are given."),
  regions: status("Ranges of devices, in bytes, that belong to this volume alone."),
  regionGeneration: status("Grows with each allocation; servers compare it before they write."),
  phase: status("Pending (no regions yet), Formatting, Ready, Failed, or Reclaiming (deleted, being erased)."),
  jobNode: status("The node that formats or erases its regions."),
  failure: status("Why its phase is Failed."),
  published: status("Nodes it is attached to, and how they may use it."),
  staged: status("Nodes that have it mounted, with the boot id of the host they mounted it under."),
  writer: status("The node that may append to the log now."),
  waiters: status("Nodes that wait to become the writer, in order."),
  epoch: status("The highest writer epoch ever handed out."),
  slots: status("The owner slot of each node that has it for writing, and of those that were lost with it."),
  slotCount: status("Owner slots that its memory has; 63 where it does not say."),
  conditions: status("What is wrong with it, if anything."),
};

export const DEVICE_FIELDS: Fields<FamfsDevice> = {
  uuid: spec("UUID in the device label; paths differ from host to host."),
  pool: spec("The pool it belongs to; empty for the device of an adopted volume."),
  fabric: spec("The stable name, given by the administrator, of the set of nodes that reach it."),
  sizeBytes: spec("Size of the device."),
  coherency: spec("What keeps the caches of its hosts in step."),
  incarnation: status("How often its label was written anew."),
  nodes: status("Nodes that reach it, and by which path."),
  generation: status("Counts allocations on this device."),
  revision: status("Raised every few seconds; the memory remembers it, so that a restored backup is noticed."),
  frozen: status("The store was restored from a backup: nothing is erased or given up before device rebuild was run."),
  intent: status("An allocation that is not finished; any controller finishes it before it makes another."),
};

/** Descriptions inside of fields, by the name of the field. */
export const CONDITION_DESCRIPTIONS: { readonly [Name in keyof Condition]: string } = {
  type: "What it is about.",
  status: "True, False or Unknown.",
  reason: "One word for programs.",
  message: "What happened, and the way out.",
  lastTransitionTime: "When status last changed.",
};
