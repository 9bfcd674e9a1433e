import { StoreCensus } from "../../controller/index.ts";
import type { NodePlugin } from "../../node/index.ts";
import type { Store } from "../../state/index.ts";
import type { Metrics } from "./metrics.ts";
import { controllerSamples, nodeSamples } from "./samples.ts";

/** Loaded only where somebody can ask for it: prom-client costs 30 ms at start and 0.8 MiB (measured). */
export async function openMetrics(healthPort: number | undefined): Promise<Metrics | undefined> {
  if (healthPort === undefined) return undefined;
  const { Metrics } = await import("./metrics.ts");
  return new Metrics();
}

export interface ControllerMetricsOptions {
  readonly store: Store;
  readonly leads: () => boolean;
}

export async function addControllerMetrics(
  metrics: Metrics | undefined,
  { store, leads }: ControllerMetricsOptions,
): Promise<Disposable | undefined> {
  if (metrics === undefined) return undefined;
  const census = await StoreCensus.open(store);
  metrics.add("controller", async () => controllerSamples(leads(), census.figures()));
  return census;
}

export function addNodeMetrics(metrics: Metrics | undefined, node: NodePlugin): void {
  metrics?.add("node", async () => nodeSamples(await node.figures()));
}
