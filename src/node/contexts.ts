import { FamfsError } from "../base/index.ts";

/**
 * Contexts come from the CO and may say anything. Everything a node needs is in the volume's record, so they are only
 * checked: what nobody could have meant is refused rather than ignored.
 */

/** Added by the provisioner and the kubelet for people to read. */
const FOREIGN_PREFIXES = ["csi.storage.k8s.io/", "storage.kubernetes.io/"];

/** Set by ControllerPublishVolume. */
const ROLE = "famfs.csi.dev/role";
const ROLES = ["reader", "writer", "shared"];

/** INVALID_ARGUMENT names the first key that is unknown. */
export function checkVolumeContext(context: Readonly<Record<string, string>>): void {
  for (const key of Object.keys(context)) {
    if (FOREIGN_PREFIXES.some((prefix) => key.startsWith(prefix))) continue;
    throw new FamfsError(
      "INVALID_ARGUMENT",
      `volume_context: "${key.slice(0, 128)}" is unknown; there are no attributes`,
    );
  }
}

/** Whether ControllerPublishVolume attached the volume for reading only. INVALID_ARGUMENT. */
export function parsePublishContext(context: Readonly<Record<string, string>>): { readonly reader: boolean } {
  for (const [key, value] of Object.entries(context)) {
    if (key === ROLE && ROLES.includes(value)) continue;
    throw new FamfsError(
      "INVALID_ARGUMENT",
      `publish_context: "${key.slice(0, 128)}" = "${value.slice(0, 128)}" is not from ControllerPublishVolume`,
    );
  }
  return { reader: context[ROLE] === "reader" };
}
