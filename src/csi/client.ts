import { Client, credentials, type ServiceError, status } from "@grpc/grpc-js";
import { parseEndpoint } from "./endpoint.ts";
import {
  loadServices,
  type MethodsOf,
  type RequestOf,
  type ResponseOf,
  type ServiceDefinitions,
  type ServiceName,
} from "./proto.ts";

/** An answer other than OK. `code` is the name of the gRPC status. */
export class RpcError extends Error {
  override readonly name = "RpcError";
  readonly code: string;

  constructor(method: string, error: ServiceError) {
    super(`${method}: ${status[error.code]}: ${error.details}`, { cause: error });
    this.code = status[error.code] ?? String(error.code);
  }
}

/**
 * The caller's side of the services over a Unix socket: what the demo and the tests play a container orchestrator with.
 */
export class CsiClient implements Disposable {
  readonly #client: Client;
  readonly #services: ServiceDefinitions;

  private constructor(client: Client, services: ServiceDefinitions) {
    this.#client = client;
    this.#services = services;
  }

  /** Connects on the first call. */
  static open(endpoint: string): CsiClient {
    const options = { "grpc.max_receive_message_length": -1, "grpc.default_authority": "localhost" };
    const client = new Client(`unix:${parseEndpoint(endpoint)}`, credentials.createInsecure(), options);
    return new CsiClient(client, loadServices());
  }

  /** One unary call. Throws RpcError; `timeoutMs` becomes the call's deadline (default one minute). */
  call<Name extends ServiceName, Method extends MethodsOf<ServiceDefinitions[Name]>>(
    service: Name,
    method: Method,
    request: RequestOf<ServiceDefinitions[Name][Method]>["sent"],
    { timeoutMs = 60_000, signal }: { timeoutMs?: number; signal?: AbortSignal } = {},
  ): Promise<ResponseOf<ServiceDefinitions[Name][Method]>["received"]> {
    type Response = ResponseOf<ServiceDefinitions[Name][Method]>["received"];
    const { promise, resolve, reject } = Promise.withResolvers<Response>();
    const definition = this.#services[service][String(method)];
    if (definition === undefined) throw new TypeError(`${service} has no method ${String(method)}`);
    const call = this.#client.makeUnaryRequest<object, object>(
      definition.path,
      definition.requestSerialize,
      definition.responseDeserialize,
      request as object,
      { deadline: Date.now() + timeoutMs },
      (error, response) =>
        error === null ? resolve(response as Response) : reject(new RpcError(String(method), error)),
    );
    const cancel = () => call.cancel();
    signal?.addEventListener("abort", cancel, { once: true });
    return promise.finally(() => signal?.removeEventListener("abort", cancel));
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}
