/** A Kubernetes API server alone, on loopback: for tests of what only talks to the API. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ControlPlane, type ControlPlaneOptions } from "./support/control-plane.ts";
import { programs } from "./support/programs.ts";
import { run } from "./support/run.ts";

export class ApiServer implements AsyncDisposable {
  readonly directory: string;
  readonly plane: ControlPlane;

  private constructor(directory: string, plane: ControlPlane) {
    this.directory = directory;
    this.plane = plane;
  }

  static async start(options: Pick<ControlPlaneOptions, "users" | "apiServerFlags"> = {}): Promise<ApiServer> {
    const directory = mkdtempSync(join(tmpdir(), "famfs-api-"));
    try {
      return new ApiServer(directory, await ControlPlane.start({ ...options, directory, address: "127.0.0.1" }));
    } catch (error) {
      rmSync(directory, { recursive: true, force: true });
      throw error;
    }
  }

  async kubectl(args: readonly string[], input?: string): Promise<string> {
    const command = [programs.kubectl, `--kubeconfig=${this.plane.kubeconfig()}`, ...args];
    return (await run(command, input === undefined ? {} : { input })).stdout;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.plane[Symbol.asyncDispose]();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
