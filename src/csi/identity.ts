import { DRIVER_NAME } from "./names.ts";
import type { Service } from "./rpc.ts";

export interface IdentityOptions {
  readonly version: string;
  /** True where the controller service is served as well. */
  readonly controller: boolean;
  /** Whether the parts behind the services answer: store, node agent. Must not wait for long. */
  readonly ready: () => boolean | Promise<boolean>;
}

export function identityService({ version, controller, ready }: IdentityOptions): Service<"identity"> {
  return {
    async GetPluginInfo() {
      return { name: DRIVER_NAME, vendorVersion: version };
    },
    async GetPluginCapabilities() {
      return {
        capabilities: [
          ...(controller ? [{ service: { type: "CONTROLLER_SERVICE" as const } }] : []),
          { service: { type: "VOLUME_ACCESSIBILITY_CONSTRAINTS" as const } },
        ],
      };
    },
    async Probe() {
      return { ready: { value: await ready() } };
    },
  };
}
