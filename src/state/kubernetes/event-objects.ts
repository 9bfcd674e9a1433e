import type { DriverEvent } from "../events.ts";
import type { KubernetesApi } from "./api.ts";
import { type ApiObject, asRecord, parseObject } from "./api-object.ts";
import { API_GROUP, API_VERSION } from "./resources.ts";

/** What an event is about (v1 ObjectReference). `kubectl describe` finds an event by all of it, the uid as well. */
export interface ObjectReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
}

/** The objects an event is about, the one that tells most first. Empty when that is gone. */
export async function objectsOf(
  event: DriverEvent,
  api: KubernetesApi,
  signal: AbortSignal,
): Promise<ObjectReference[]> {
  // As the kubelet does, which `kubectl describe node` knows: so nobody here has to be allowed to read nodes.
  if ("nodeId" in event) return [{ apiVersion: "v1", kind: "Node", name: event.nodeId, uid: event.nodeId }];
  if ("deviceUuid" in event) {
    const device = await get(api, "FamfsDevice", event.deviceUuid, signal);
    return device === undefined ? [] : [referenceTo("FamfsDevice", device)];
  }
  const volume = await get(api, "FamfsVolume", event.volumeId, signal);
  const pods = (event.pods ?? []).map((pod): ObjectReference => ({ apiVersion: "v1", kind: "Pod", ...pod }));
  if (volume === undefined) return pods;
  return [referenceTo("FamfsVolume", volume), ...claimOf(volume), ...pods];
}

async function get(
  api: KubernetesApi,
  kind: string,
  name: string,
  signal: AbortSignal,
): Promise<ApiObject | undefined> {
  const path = `/apis/${API_GROUP}/${API_VERSION}/${kind.toLowerCase()}s/${encodeURIComponent(name)}`;
  const found = await api.request({ method: "GET", path, signal });
  return found === undefined ? undefined : parseObject(kind, found);
}

function referenceTo(kind: string, { metadata: { name, uid } }: ApiObject): ObjectReference {
  return { apiVersion: `${API_GROUP}/${API_VERSION}`, kind, name, uid };
}

/** The claim that the volume was made for, while there is one. */
function claimOf({ spec, status }: ApiObject): ObjectReference[] {
  const { claim: given, csiName } = asRecord(spec);
  // Of a volume that cannot be read, too.
  const { namespace, name } = asRecord(given);
  if (typeof namespace !== "string" || typeof name !== "string") return [];
  // A deleted claim has let its volume go: nobody looks there any more.
  if (asRecord(status)["phase"] === "Reclaiming") return [];
  // The provisioner makes the name from the claim's uid, so nobody here has to be allowed to read claims.
  const uid = /^pvc-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/.exec(String(csiName))?.[1];
  return [{ apiVersion: "v1", kind: "PersistentVolumeClaim", namespace, name, ...(uid === undefined ? {} : { uid }) }];
}
