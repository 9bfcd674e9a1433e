import { once } from "node:events";
import { createServer, type Server, type ServerResponse } from "node:http";
import { fromSystemError, messageOf } from "../base/index.ts";
import { type Checks, runChecks } from "./checks.ts";

/** What `/metrics` answers; in bounded time. */
export interface MetricsPage {
  readonly contentType: string;
  text(): Promise<string>;
}

export interface HealthServerOptions {
  /** 0 takes any free one. */
  readonly port: number;
  /** What must hold for this plugin to be of use: looked at for each answer. */
  readonly readiness: () => Checks;
  readonly metrics?: MetricsPage | undefined;
}

/**
 * What Prometheus and the kubelet's probes ask over HTTP. `/metrics`. `/healthz` answers while the event loop turns: a
 * process that does not is ended and started again, which would not help against an API server that is away, and would
 * break every mount of the node. `/readyz`: whether all checks hold, with a line for each.
 */
export class HealthServer implements AsyncDisposable {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async open({ port, readiness, metrics }: HealthServerOptions): Promise<HealthServer> {
    const server = createServer((request, response) => {
      if (request.url === "/healthz") return end(response, 200, "ok\n");
      if (request.url === "/readyz") return void answer(response, readiness());
      if (request.url === "/metrics" && metrics !== undefined) return void show(response, metrics);
      end(response, 404, "no such page\n");
    });
    server.listen(port);
    try {
      await once(server, "listening");
    } catch (error) {
      throw fromSystemError(error, "listen", `port ${port}`);
    }
    return new HealthServer(server);
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === "object" && address !== null ? address.port : 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }
}

/** Never fails: a failed check is an answer. */
async function answer(response: ServerResponse, checks: Checks): Promise<void> {
  const results = await runChecks(checks);
  const lines = results.map(({ name, problem }) => `${name}: ${problem ?? "ok"}\n`);
  end(response, results.some(({ problem }) => problem !== undefined) ? 503 : 200, lines.join(""));
}

/** Never fails: Prometheus counts anything but 200 as a scrape that failed. */
async function show(response: ServerResponse, metrics: MetricsPage): Promise<void> {
  try {
    end(response, 200, await metrics.text(), metrics.contentType);
  } catch (error) {
    end(response, 500, `${messageOf(error)}\n`);
  }
}

const PLAIN = "text/plain; charset=utf-8";

function end(response: ServerResponse, status: number, text: string, contentType = PLAIN): void {
  response.writeHead(status, { "content-type": contentType }).end(text);
}
