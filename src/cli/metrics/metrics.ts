import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { EndedCall } from "../../csi/index.ts";
import type { AnsweredRequest } from "../../state/index.ts";
import { METRICS, type MetricName, metricsOf, type Part, type Sample } from "./definitions.ts";
import { processSamples } from "./samples.ts";

const CALLS = "famfs_csi_rpc_duration_seconds";
const REQUESTS = "famfs_csi_api_requests_total";
/** From a call that only reads records to the longest that any may take. */
const CALL_SECONDS = [0.005, 0.02, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120];

/**
 * What Prometheus scrapes from this process. Calls and requests are counted here as they end; everything else is asked
 * for at each scrape, in bounded time, and made into samples of that scrape: nothing is kept that could outlive what it
 * is about.
 */
export class Metrics {
  readonly contentType = Registry.PROMETHEUS_CONTENT_TYPE;
  readonly #counted = new Registry();
  readonly #calls: Histogram<"method" | "code">;
  readonly #requests: Counter<"method" | "code">;
  readonly #sources = new Map<Part, () => Promise<Sample[]>>();

  constructor() {
    const registers = [this.#counted];
    const named = (name: typeof CALLS | typeof REQUESTS) => {
      const { help, labels } = METRICS[name];
      return { name, help, labelNames: labels, registers };
    };
    this.#calls = new Histogram({ ...named(CALLS), buckets: CALL_SECONDS });
    this.#requests = new Counter(named(REQUESTS));
  }

  readonly callEnded = ({ method, code, seconds }: EndedCall): void => {
    this.#calls.observe({ method, code }, seconds);
  };

  readonly requestAnswered = ({ method, code }: AnsweredRequest): void => {
    this.#requests.inc({ method, code });
  };

  /** `source` is asked at each scrape; it must answer in bounded time. */
  add(part: Part, source: () => Promise<Sample[]>): void {
    this.#sources.set(part, source);
  }

  async text(): Promise<string> {
    const samples = await Promise.all([...this.#sources.values()].map((source) => source()));
    const registry = new Registry();
    this.#fill(registry, [processSamples(), ...samples].flat());
    return `${await this.#counted.metrics()}\n${await registry.metrics()}`;
  }

  /** A metric with labels is declared even when nothing has it now; one without labels would show a 0 then. */
  #fill(registry: Registry, samples: readonly Sample[]): void {
    const byName = Map.groupBy(samples, ([name]) => name);
    for (const [name, { type, help, labels }] of metricsOf(new Set(this.#sources.keys()))) {
      const values = byName.get(name) ?? [];
      if (name === CALLS || name === REQUESTS || (values.length === 0 && labels.length === 0)) continue;
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
