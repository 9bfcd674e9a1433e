import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { fromSystemError } from "../base/index.ts";

export interface HealthServerOptions {
  /** 0 takes any free one. */
  readonly port: number;
  /** What must hold for this plugin to be of use, by name; asked at each request, so they must not wait. */
  readonly checks: Readonly<Record<string, () => boolean>>;
}

/**
 * What the kubelet's probes ask over HTTP: `/healthz` answers while the event loop turns (a process that does not is
 * ended and started again, which would not help against an API server that is away), `/readyz` when all checks hold.
 */
export class HealthServer implements AsyncDisposable {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async open({ port, checks }: HealthServerOptions): Promise<HealthServer> {
    const server = createServer((request, response) => {
      const failed = request.url === "/readyz" ? Object.keys(checks).filter((name) => checks[name]?.() !== true) : [];
      const known = request.url === "/healthz" || request.url === "/readyz";
      const [status, text] = known
        ? failed.length > 0
          ? [503, `not ready: ${failed.join(", ")}`]
          : [200, "ok"]
        : [404, "no such page"];
      response.writeHead(status, { "content-type": "text/plain" }).end(`${text}\n`);
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
