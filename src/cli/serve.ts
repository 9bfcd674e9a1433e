import type { Logger } from "../base/index.ts";
import { CsiServer, identityService, type Service } from "../csi/index.ts";
import { type Checks, runChecks } from "./checks.ts";
import type { Metrics } from "./metrics/metrics.ts";
import { VERSION } from "./version.ts";

export interface Plugin {
  readonly endpoint: string;
  readonly controller?: Service<"controller">;
  readonly node?: Service<"node">;
  /** Whether what is behind the services answers. */
  readonly readiness: Checks;
  readonly logger: Logger;
  /** This node: named in log lines of calls that name none. */
  readonly nodeId?: string;
  /** Where calls are counted. */
  readonly metrics?: Pick<Metrics, "callEnded"> | undefined;
}

/** One socket with the identity service and whichever of the other two there is. */
export function serve({ endpoint, controller, node, readiness, logger, nodeId, metrics }: Plugin): Promise<CsiServer> {
  const ready = async () => {
    const failed = (await runChecks(readiness)).filter(({ problem }) => problem !== undefined);
    if (failed.length > 0) logger.warn({ failed }, "not ready");
    return failed.length === 0;
  };
  return CsiServer.open({
    endpoint,
    services: {
      identity: identityService({ version: VERSION, ready }),
      ...(controller === undefined ? {} : { controller }),
      ...(node === undefined ? {} : { node }),
    },
    logger,
    node: nodeId,
    onEnd: metrics?.callEnded,
  });
}
