/**
 * A Kubernetes API server alone, on loopback: for tests of what only talks to the API. It goes with the test, also when
 * that is killed, or fails before it got what it would dispose of.
 */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ControlPlane, type ControlPlaneOptions } from "./support/control-plane.ts";
import { programs } from "./support/programs.ts";
import { CLUSTER_MARKER, Reaper } from "./support/reaper.ts";
import { run } from "./support/run.ts";

export class ApiServer implements AsyncDisposable {
  readonly directory: string;
  readonly plane: ControlPlane;
  readonly #reaper: Reaper;

  private constructor(directory: string, plane: ControlPlane, reaper: Reaper) {
    this.directory = directory;
    this.plane = plane;
    this.#reaper = reaper;
  }

  static async start(options: Pick<ControlPlaneOptions, "users" | "apiServerFlags"> = {}): Promise<ApiServer> {
    const directory = mkdtempSync(join(tmpdir(), "famfs-api-"));
    const reaper = Reaper.start(directory);
    try {
      const environment = { [CLUSTER_MARKER]: directory };
      const plane = await ControlPlane.start({ ...options, directory, address: "127.0.0.1", environment });
      return new ApiServer(directory, plane, reaper);
    } catch (error) {
      await reaper[Symbol.asyncDispose]();
      throw error;
    }
  }

  async kubectl(args: readonly string[], input?: string): Promise<string> {
    const command = [programs.kubectl, `--kubeconfig=${this.plane.kubeconfig()}`, ...args];
    return (await run(command, input === undefined ? {} : { input })).stdout;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.plane[Symbol.asyncDispose]();
    await this.#reaper[Symbol.asyncDispose]();
  }
}
