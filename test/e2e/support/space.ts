/** A namespace of one group of tests: what they make in it goes with it. */
import { type Api, ApiError, type Manifest, pathOf } from "./api.ts";
import { VOLUMES } from "./objects.ts";
import { until } from "./until.ts";

/**
 * What hangs is ended by it: a sidecar or kubelet that was refused twice tries again after half a minute or a whole
 * one.
 */
const PATIENCE_MS = 120_000;

/** What tests look at in a pod. */
export interface Pod {
  readonly metadata: { readonly name: string; readonly uid: string; readonly deletionTimestamp?: string };
  readonly spec: { readonly nodeName?: string };
  readonly status: {
    readonly phase: string;
    readonly conditions?: readonly { readonly type: string; readonly status: string; readonly message?: string }[];
    readonly containerStatuses?: readonly {
      readonly name: string;
      readonly containerID?: string;
      readonly restartCount: number;
      readonly ready: boolean;
    }[];
  };
}

export interface Claim {
  readonly metadata: { readonly name: string; readonly uid: string };
  readonly spec: { readonly volumeName?: string };
  readonly status: { readonly phase: string; readonly capacity?: { readonly storage: string } };
}

interface Event {
  readonly reason?: string;
  readonly message?: string;
  readonly involvedObject: { readonly kind: string; readonly name: string };
}

type Kubectl = (args: readonly string[]) => Promise<string>;

export class Space {
  readonly name: string;
  readonly api: Api;
  readonly #kubectl: Kubectl;

  private constructor(name: string, api: Api, kubectl: Kubectl) {
    this.name = name;
    this.api = api;
    this.#kubectl = kubectl;
  }

  static async create(name: string, api: Api, kubectl: Kubectl): Promise<Space> {
    await api.create({ apiVersion: "v1", kind: "Namespace", metadata: { name } });
    // Pods wait for it, creating one does not.
    const account = pathOf("v1", "ServiceAccount", { name: "default", namespace: name });
    await until("the service account", () => api.exists(account));
    return new Space(name, api, kubectl);
  }

  /** Pods first, so that nothing is in use; then waits until the driver has let go of every volume. */
  async remove(): Promise<void> {
    const volumes = new Set((await this.#claims()).map(({ spec }) => spec.volumeName));
    await this.api.delete(pathOf("v1", "Pod", { namespace: this.name }), { gracePeriodSeconds: 0 });
    await this.api.remove(pathOf("v1", "Namespace", { name: this.name }), {}, 90_000);
    for (const name of volumes) {
      if (name === undefined) continue;
      await until(`volume ${name} is erased or kept`, () => this.#isSettled(name), { timeoutMs: 60_000 });
    }
  }

  async create(...manifests: readonly Manifest[]): Promise<void> {
    for (const manifest of manifests) {
      await this.api.create({ ...manifest, metadata: { ...manifest.metadata, namespace: this.name } });
    }
  }

  pod(name: string): Promise<Pod> {
    return this.api.get<Pod>(pathOf("v1", "Pod", { name, namespace: this.name }));
  }

  claim(name: string): Promise<Claim> {
    return this.api.get<Claim>(pathOf("v1", "PersistentVolumeClaim", { name, namespace: this.name }));
  }

  /** Resolves with the name of the volume, which is also its id for the driver. */
  bound(name: string, timeoutMs = PATIENCE_MS): Promise<string> {
    const ask = async () => {
      const { status, spec } = await this.claim(name);
      return status.phase === "Bound" ? spec.volumeName : undefined;
    };
    return this.#explained("PersistentVolumeClaim", name, until(`claim ${name} is bound`, ask, fast(timeoutMs)));
  }

  /** Resolves with the nodes they are on. */
  async ready(...names: readonly string[]): Promise<string[]> {
    const nodes: string[] = [];
    for (const name of names) {
      const ask = async () => {
        const { status, spec } = await this.pod(name);
        if (status.phase === "Failed") throw new Error(`pod ${name} failed`);
        const condition = status.conditions?.find(({ type }) => type === "Ready");
        return condition?.status === "True" ? spec.nodeName : undefined;
      };
      nodes.push(await this.#explained("Pod", name, until(`pod ${name} is ready`, ask, fast(PATIENCE_MS))));
    }
    return nodes;
  }

  /** Runs a shell script in a pod; rejects with what it said when it fails. */
  sh(podName: string, script: string): Promise<string> {
    return this.#kubectl(["exec", `--namespace=${this.name}`, podName, "--", "sh", "-c", script]);
  }

  async deletePods(...names: readonly string[]): Promise<void> {
    for (const name of names) {
      await this.api.delete(pathOf("v1", "Pod", { name, namespace: this.name }), { gracePeriodSeconds: 0 });
    }
    for (const name of names) await this.api.remove(pathOf("v1", "Pod", { name, namespace: this.name }));
  }

  /** Whether a VolumeAttachment of a PersistentVolume is there, or being taken off. */
  async isAttached(volume: string): Promise<boolean> {
    const path = pathOf("storage.k8s.io/v1", "VolumeAttachment", {});
    const attachments = await this.api.list<{ spec: { source: { persistentVolumeName?: string } } }>(path);
    return attachments.some(({ spec }) => spec.source.persistentVolumeName === volume);
  }

  async deleteClaim(name: string): Promise<void> {
    await this.api.remove(pathOf("v1", "PersistentVolumeClaim", { name, namespace: this.name }));
  }

  /** Everything the events of an object say, "reason: message". */
  async events(kind: string, name: string): Promise<string[]> {
    const events = await this.api.list<Event>(pathOf("v1", "Event", { namespace: this.name }));
    return events
      .filter(({ involvedObject: of }) => of.kind === kind && of.name === name)
      .map(({ reason, message }) => `${reason}: ${message}`);
  }

  event(kind: string, name: string, wanted: RegExp, timeoutMs = 45_000): Promise<string> {
    const ask = async () => (await this.events(kind, name)).find((event) => wanted.test(event));
    return this.#explained(kind, name, until(`an event of ${kind} ${name} like ${wanted}`, ask, { timeoutMs }));
  }

  /** With the object's events, which mostly say why. */
  async #explained<T>(kind: string, name: string, promise: Promise<T>): Promise<T> {
    try {
      return await promise;
    } catch (error) {
      const events = await this.events(kind, name).catch(() => []);
      const message = error instanceof Error ? error.message : String(error);
      throw new Error([`${message}; its events:`, ...events].join("\n  "), { cause: error });
    }
  }

  #claims(): Promise<readonly Claim[]> {
    return this.api.list<Claim>(pathOf("v1", "PersistentVolumeClaim", { namespace: this.name }));
  }

  async #isSettled(name: string): Promise<boolean> {
    try {
      const path = pathOf("v1", "PersistentVolume", { name });
      const { spec, status } = await this.api.get<{
        spec: { persistentVolumeReclaimPolicy: string };
        status: { phase: string };
      }>(path);
      return spec.persistentVolumeReclaimPolicy === "Retain" && status.phase === "Released";
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 404)) throw error;
      return !(await this.api.exists(`${VOLUMES}/${name}`));
    }
  }
}

function fast(timeoutMs: number): { timeoutMs: number; periodMs: number } {
  return { timeoutMs, periodMs: 25 };
}
