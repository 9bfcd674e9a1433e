import { DRIVER_NAME } from "./names.ts";
import type { Service } from "./rpc.ts";

export interface IdentityOptions {
  readonly version: string;
  /** Whether the parts behind the services answer: store, node agent. Must not wait for long. */
  readonly ready: () => boolean | Promise<boolean>;
}

export function identityService({ version, ready }: IdentityOptions): Service<"identity"> {
  return {
    async GetPluginInfo() {
      return { name: DRIVER_NAME, vendorVersion: version };
    },
    async GetPluginCapabilities() {
      return {
        capabilities: [
          // Of the driver as a whole: who asks the node plugin learns that volumes are published by a controller first.
          { service: { type: "CONTROLLER_SERVICE" } },
          { service: { type: "VOLUME_ACCESSIBILITY_CONSTRAINTS" as const } },
        ],
      };
    },
    async Probe() {
      return { ready: { value: await ready() } };
    },
  };
}
