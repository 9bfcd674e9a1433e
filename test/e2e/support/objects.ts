/** Objects that users and administrators write, with what nearly every test wants filled in. */
import type { Manifest } from "./api.ts";
import { TOOLS_IMAGE } from "./images.ts";

export const DRIVER = "famfs.csi.dev";
export const FABRIC = "rack-1";
export const VOLUMES = "/apis/famfs.csi.dev/v1alpha1/famfsvolumes";
export const DEVICES = "/apis/famfs.csi.dev/v1alpha1/famfsdevices";

export type AccessMode = "ReadWriteOnce" | "ReadWriteOncePod" | "ReadWriteMany" | "ReadOnlyMany";

export interface ClaimOptions {
  readonly mode?: AccessMode;
  readonly size?: string;
  /** The class "famfs" of the chart, unless the test has one of its own. */
  readonly storageClassName?: string;
  /** Of a volume that exists. */
  readonly volumeName?: string;
}

export function claim(name: string, options: ClaimOptions = {}): Manifest {
  const { mode = "ReadWriteMany", size = "64Mi", storageClassName = "famfs", volumeName } = options;
  const resources = { requests: { storage: size } };
  return {
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata: { name },
    spec: { accessModes: [mode], storageClassName, resources, ...(volumeName === undefined ? {} : { volumeName }) },
  };
}

export interface PodOptions {
  /** Where the scheduler shall put it. */
  readonly node?: string;
  /** Claims by the name of the directory they are mounted at; default: the pod's one claim at /data. */
  readonly claims?: Readonly<Record<string, string>>;
  /** Of the claim in the pod. */
  readonly readOnly?: boolean;
  readonly subPath?: string;
  readonly mountPropagation?: "HostToContainer";
  /** Past the scheduler, straight to this node. */
  readonly nodeName?: string;
  readonly securityContext?: object;
  readonly privileged?: boolean;
  /** What it runs instead of waiting for somebody to exec. */
  readonly script?: string;
}

/** A shell with a claim at /data. */
export function pod(name: string, claimName: string, options: PodOptions = {}): Manifest {
  const { node, nodeName, readOnly = false, subPath, mountPropagation } = options;
  const { securityContext, privileged = false, script } = options;
  const claims = Object.entries(options.claims ?? { data: claimName });
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name },
    spec: {
      // Not nodeName, which would pass the scheduler and so the choice of the volume's place.
      ...(node === undefined ? {} : { nodeSelector: { "kubernetes.io/hostname": node } }),
      ...(nodeName === undefined ? {} : { nodeName }),
      ...(securityContext === undefined ? {} : { securityContext }),
      terminationGracePeriodSeconds: 0,
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      containers: [
        {
          name: "shell",
          image: TOOLS_IMAGE,
          imagePullPolicy: "Never",
          ...(script === undefined ? {} : { command: ["sh", "-c", script] }),
          ...(privileged ? { securityContext: { privileged } } : {}),
          volumeMounts: claims.map(([directory]) => ({
            name: directory,
            mountPath: `/${directory}`,
            ...(subPath === undefined ? {} : { subPath }),
            ...(mountPropagation === undefined ? {} : { mountPropagation }),
          })),
        },
      ],
      volumes: claims.map(([directory, claimed]) => ({
        name: directory,
        persistentVolumeClaim: { claimName: claimed, readOnly },
      })),
    },
  };
}

export interface ClassOptions {
  readonly bindingMode?: "WaitForFirstConsumer" | "Immediate";
  readonly reclaimPolicy?: "Delete" | "Retain";
  readonly parameters?: Readonly<Record<string, string>>;
}

export function storageClass(name: string, options: ClassOptions = {}): Manifest {
  const { bindingMode = "WaitForFirstConsumer", reclaimPolicy = "Delete", parameters = {} } = options;
  return {
    apiVersion: "storage.k8s.io/v1",
    kind: "StorageClass",
    metadata: { name },
    provisioner: DRIVER,
    volumeBindingMode: bindingMode,
    reclaimPolicy,
    parameters,
  };
}

export interface StaticVolumeOptions {
  readonly volumeHandle: string;
  readonly mode: AccessMode;
  readonly size?: string;
}

/** A volume that is there already, as an administrator makes it known. */
export function staticVolume(name: string, { volumeHandle, mode, size = "64Mi" }: StaticVolumeOptions): Manifest {
  return {
    apiVersion: "v1",
    kind: "PersistentVolume",
    metadata: { name },
    spec: {
      capacity: { storage: size },
      accessModes: [mode],
      persistentVolumeReclaimPolicy: "Retain",
      storageClassName: "",
      csi: { driver: DRIVER, volumeHandle },
      nodeAffinity: {
        required: {
          nodeSelectorTerms: [
            { matchExpressions: [{ key: "famfs.csi.dev/fabric", operator: "In", values: [FABRIC] }] },
          ],
        },
      },
    },
  };
}
