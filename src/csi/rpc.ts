import { type handleUnaryCall, type ServerUnaryCall, status, type UntypedServiceImplementation } from "@grpc/grpc-js";
import { FamfsError, isFamfsError, type Logger } from "../base/index.ts";
import { checkFieldSizes } from "./field-limits.ts";
import { toGrpcStatus } from "./grpc-status.ts";
import type { MethodsOf, RequestOf, ResponseOf, ServiceDefinitions, ServiceName } from "./proto.ts";

/** What a handler gets beside its request. */
export interface CallContext {
  /** Aborts when the client cancels, the deadline passes or the server stops; its reason is a FamfsError. */
  readonly signal: AbortSignal;
  /** Milliseconds left before `signal` aborts by itself: a budget to be passed down, never a fresh time-out. */
  readonly remainingMs: () => number;
  /** Adds the RPC's name and volume to each line. */
  readonly logger: Logger;
}

/** Handlers of a service, in plain promises. A method left out answers UNIMPLEMENTED. */
export type Service<Name extends ServiceName> = {
  readonly [Method in MethodsOf<ServiceDefinitions[Name]>]?: (
    request: RequestOf<ServiceDefinitions[Name][Method]>["received"],
    call: CallContext,
  ) => Promise<ResponseOf<ServiceDefinitions[Name][Method]>["sent"]>;
};

/** How a call ended. */
export interface EndedCall {
  readonly method: string;
  /** Name of its gRPC status. */
  readonly code: string;
  readonly seconds: number;
}

export interface RpcOptions {
  readonly logger: Logger;
  /** The node that calls which name none are for. */
  readonly node?: string | undefined;
  /** Called once for each call; must not throw. */
  readonly onEnd?: ((call: EndedCall) => void) | undefined;
  /** The longest any call may take, also when its client gives more time or none. */
  readonly maxCallMs: number;
  /** Aborts every call in progress: the server stops. */
  readonly stopping: AbortSignal;
}

type Handler = (request: object, call: CallContext) => Promise<object>;

/** gRPC carries the message in a header; long ones are cut, or the client would see a protocol error instead. */
const MAX_DETAILS = 2000;

/** Asked every few seconds by sidecars and probes: logged at debug level only. */
const FREQUENT: ReadonlySet<string> = new Set([
  "Probe",
  "GetPluginInfo",
  "GetPluginCapabilities",
  "ControllerGetCapabilities",
  "NodeGetCapabilities",
  "NodeGetVolumeStats",
  "ListVolumes",
]);

/** `service` in the form grpc-js takes: field sizes checked, a deadline on each call, errors turned into statuses. */
export function toImplementation(service: object, options: RpcOptions): UntypedServiceImplementation {
  const implementation: UntypedServiceImplementation = {};
  for (const [method, handler] of Object.entries(service) as [string, Handler | undefined][]) {
    if (handler !== undefined) implementation[method] = unary(method, handler.bind(service), options);
  }
  return implementation;
}

function unary(rpc: string, handler: Handler, options: RpcOptions): handleUnaryCall<object, object> {
  return (call, callback) => {
    const started = performance.now();
    const logger = options.logger.child({ rpc, id: nextId(), ...subjectOf(call.request, options.node) });
    const end = (code: string) => {
      const milliseconds = performance.now() - started;
      options.onEnd?.({ method: rpc, code, seconds: milliseconds / 1000 });
      return { code, ms: Math.round(milliseconds) };
    };
    answer(call, handler, logger, options).then(
      (response) => {
        const level = FREQUENT.has(rpc) ? "debug" : "info";
        logger[level](end("OK"), "rpc");
        callback(null, response);
      },
      (error: unknown) => {
        const { code, details } = toGrpcStatus(error);
        const fields = end(status[code]);
        // A defect of ours: the one place that logs it, with its stack.
        if (code === status.INTERNAL) logger.error({ ...fields, err: error }, "rpc");
        else logger.warn({ ...fields, reason: details }, "rpc");
        callback({ code, details: details.slice(0, MAX_DETAILS) });
      },
    );
  };
}

/** Runs the handler within its time. What it answers after that is dropped; it was told by `signal` to clean up. */
async function answer(
  call: ServerUnaryCall<object, object>,
  handler: Handler,
  logger: Logger,
  { maxCallMs, stopping }: RpcOptions,
): Promise<object> {
  const given = call.getDeadline();
  const budgetMs = Math.max(0, Math.min(maxCallMs, Number(given) - Date.now()));
  const deadline = performance.now() + budgetMs;
  const abort = new AbortController();
  const onCancel = () => abort.abort(new FamfsError("CANCELLED", "the client cancelled the call"));
  const onStop = () => abort.abort(new FamfsError("STORE_UNAVAILABLE", "the server is stopping; try again"));
  const timer = setTimeout(
    () => abort.abort(new FamfsError("DEADLINE_EXCEEDED", `no answer within ${Math.round(budgetMs)} ms`)),
    budgetMs,
  );
  call.on("cancelled", onCancel);
  stopping.addEventListener("abort", onStop, { once: true });
  if (stopping.aborted) onStop();
  const { promise: cut, reject } = Promise.withResolvers<never>();
  abort.signal.addEventListener("abort", () => reject(abort.signal.reason), { once: true });
  try {
    abort.signal.throwIfAborted();
    checkFieldSizes(call.request);
    const work = handler(call.request, {
      signal: abort.signal,
      remainingMs: () => Math.max(0, deadline - performance.now()),
      logger,
    });
    work.catch((error: unknown) => {
      // Otherwise it goes to the client by the race below.
      if (abort.signal.aborted && error !== abort.signal.reason && !isFamfsError(error)) {
        logger.error({ err: error }, "failed after its call was over");
      }
    });
    return await Promise.race([work, cut]);
  } finally {
    cut.catch(() => {}); // nobody waits for it any more
    clearTimeout(timer);
    call.off("cancelled", onCancel);
    stopping.removeEventListener("abort", onStop);
  }
}

let calls = 0;

/** Tells the lines of one call from those of others of this process. */
function nextId(): number {
  calls++;
  return calls;
}

/** What a log line names: ids only, never contexts, parameters or secrets. */
function subjectOf(request: object, ownNode: string | undefined): { volume?: string; node?: string } {
  const fields = request as { volumeId?: unknown; name?: unknown; nodeId?: unknown };
  const first = (...values: unknown[]) => values.find((value) => typeof value === "string" && value !== "");
  const volume = first(fields.volumeId, fields.name);
  const node = first(fields.nodeId, ownNode);
  return {
    ...(typeof volume === "string" ? { volume: volume.slice(0, 128) } : {}),
    ...(typeof node === "string" ? { node: node.slice(0, 256) } : {}),
  };
}
