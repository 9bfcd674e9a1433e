/** JSON requests to the API server of a test's cluster: cheaper than a kubectl for each look. */
import { request } from "node:http";
import { until } from "./until.ts";

export interface Metadata {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly creationTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly finalizers?: readonly string[];
  readonly ownerReferences?: readonly { readonly name: string; readonly kind: string }[];
}

/** An object as somebody writes it: what is below `metadata` is up to its kind. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: Metadata;
  readonly [field: string]: unknown;
}

export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Kinds whose plural is not their name and an s. */
const PLURALS: Readonly<Record<string, string>> = {
  NetworkPolicy: "networkpolicies",
  PriorityClass: "priorityclasses",
  StorageClass: "storageclasses",
  CSIStorageCapacity: "csistoragecapacities",
};

/** Path of one object, or of all of its kind when it has no name. */
export function pathOf(apiVersion: string, kind: string, { name, namespace }: Partial<Metadata> = {}): string {
  const group = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const scope = namespace === undefined ? "" : `/namespaces/${namespace}`;
  const plural = PLURALS[kind] ?? `${kind.toLowerCase()}s`;
  return `${group}${scope}/${plural}${name === undefined ? "" : `/${name}`}`;
}

export class Api {
  readonly #socket: string;

  /** `socket`: where `kubectl proxy` listens, because the server itself is in a network of its own. */
  constructor(socket: string) {
    this.#socket = socket;
  }

  /** The caller says what it expects to find. Throws ApiError, also when the object is not there. */
  get<T>(path: string): Promise<T> {
    return this.#send("GET", path) as Promise<T>;
  }

  async list<T>(path: string): Promise<readonly T[]> {
    return (await this.get<{ items: readonly T[] }>(path)).items;
  }

  async exists(path: string): Promise<boolean> {
    try {
      await this.get(path);
      return true;
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return false;
      throw error;
    }
  }

  async create(manifest: Manifest): Promise<void> {
    const { apiVersion, kind, metadata } = manifest;
    const { namespace } = metadata;
    await this.#send("POST", pathOf(apiVersion, kind, namespace === undefined ? {} : { namespace }), manifest);
  }

  async patch(path: string, change: object): Promise<void> {
    await this.#send("PATCH", path, change, "application/merge-patch+json");
  }

  /** Asks for it; an object that is gone already is fine. */
  async delete(path: string, options: object = {}): Promise<void> {
    try {
      await this.#send("DELETE", path, options);
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 404)) throw error;
    }
  }

  async remove(path: string, options: object = {}, timeoutMs = 60_000): Promise<void> {
    await this.delete(path, options);
    await until(`${path} is gone`, async () => !(await this.exists(path)), { timeoutMs });
  }

  #send(method: string, path: string, body?: object, contentType = "application/json"): Promise<unknown> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const text = body === undefined ? undefined : JSON.stringify(body);
    // With its length: Node frames no body of a DELETE by itself.
    const headers =
      text === undefined ? {} : { "content-type": contentType, "content-length": Buffer.byteLength(text) };
    request({ socketPath: this.#socket, method, path, headers, timeout: 15_000 }, (response) => {
      let answer = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        answer += chunk;
      });
      response.on("error", reject).on("end", () => {
        const status = response.statusCode ?? 0;
        if (status < 300) resolve(answer === "" ? undefined : JSON.parse(answer));
        else reject(new ApiError(status, `${method} ${path}: ${status} ${answer.trim()}`));
      });
    })
      .on("error", reject)
      .on("timeout", function giveUp(this: { destroy(error: Error): void }) {
        this.destroy(new Error(`${method} ${path}: no answer`));
      })
      .end(text);
    return promise;
  }
}
