import type { Logger } from "../base/index.ts";
import { CsiServer, identityService, type Service } from "../csi/index.ts";
import { VERSION } from "./version.ts";

export interface Plugin {
  readonly endpoint: string;
  readonly controller?: Service<"controller">;
  readonly node?: Service<"node">;
  /** Whether what is behind the services answers. */
  readonly ready: () => boolean;
  readonly logger: Logger;
}

/** One socket with the identity service and whichever of the other two there is. */
export function serve({ endpoint, controller, node, ready, logger }: Plugin): Promise<CsiServer> {
  return CsiServer.open({
    endpoint,
    services: {
      identity: identityService({ version: VERSION, controller: controller !== undefined, ready }),
      ...(controller === undefined ? {} : { controller }),
      ...(node === undefined ? {} : { node }),
    },
    logger,
  });
}
