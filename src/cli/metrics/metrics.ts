import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { EndedCall } from "../../csi/index.ts";
import { METRICS, type MetricName, metricsOf, type Part, type Sample } from "./definitions.ts";
import { processSamples } from "./samples.ts";

const CALLS = "famfs_csi_rpc_duration_seconds";
/** From a call that only reads records to the longest that any may take. */
const CALL_SECONDS = [0.005, 0.02, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120];

/**
 * What Prometheus scrapes from this process. Calls are counted here as they end; everything else is asked for at each
 * scrape, in bounded time, and made into samples of that scrape: nothing is kept that could outlive what it is about.
 */
export class Metrics {
  readonly contentType = Registry.PROMETHEUS_CONTENT_TYPE;
  readonly #calls = new Registry();
  readonly #durations: Histogram<"method" | "code">;
  readonly #sources = new Map<Part, () => Promise<Sample[]>>();

  constructor() {
    const { help, labels } = METRICS[CALLS];
    this.#durations = new Histogram({
      name: CALLS,
      help,
      labelNames: labels,
      buckets: CALL_SECONDS,
      registers: [this.#calls],
    });
  }

  readonly callEnded = ({ method, code, seconds }: EndedCall): void => {
    this.#durations.observe({ method, code }, seconds);
  };

  /** `source` is asked at each scrape; it must answer in bounded time. */
  add(part: Part, source: () => Promise<Sample[]>): void {
    this.#sources.set(part, source);
  }

  async text(): Promise<string> {
    const samples = await Promise.all([...this.#sources.values()].map((source) => source()));
    const registry = new Registry();
    this.#fill(registry, [processSamples(), ...samples].flat());
    return `${await this.#calls.metrics()}\n${await registry.metrics()}`;
  }

  /** A metric with labels is declared even when nothing has it now; one without labels would show a 0 then. */
  #fill(registry: Registry, samples: readonly Sample[]): void {
    const byName = Map.groupBy(samples, ([name]) => name);
    for (const [name, { type, help, labels }] of metricsOf(new Set(this.#sources.keys()))) {
      const values = byName.get(name) ?? [];
      if (name === CALLS || (values.length === 0 && labels.length === 0)) continue;
      const options = { name, help, labelNames: labels, registers: [registry] };
      const set = type === "counter" ? counter(options) : gauge(options);
      for (const [, given, value] of values) set(given, value);
    }
  }
}

interface Options {
  readonly name: MetricName;
  readonly help: string;
  readonly labelNames: readonly string[];
  readonly registers: Registry[];
}

type Set = (labels: Readonly<Record<string, string>>, value: number) => void;

function counter(options: Options): Set {
  const made = new Counter<string>(options);
  return (labels, value) => made.inc(labels, value);
}

function gauge(options: Options): Set {
  const made = new Gauge<string>(options);
  return (labels, value) => made.set(labels, value);
}
