import { stat } from "node:fs/promises";
import { join } from "node:path";
import { fromSystemError, hasCode, type Logger, messageOf } from "../base/index.ts";
import { CsiServer, DRIVER_NAME, parseEndpoint, type Service } from "../csi/index.ts";

export interface RegistrationOptions {
  /** The kubelet's directory, at the same path here as on the host. */
  readonly kubeletDir: string;
  /** Where the node service is served; below `kubeletDir`, so that the kubelet finds it. */
  readonly endpoint: string;
  readonly logger: Logger;
  /** How often it is looked whether the socket is still there (default 5 s). */
  readonly checkMs?: number;
}

/** A kubelet that is set up anew clears its directory. */
const CHECK_MS = 5_000;

/**
 * Tells the kubelet of this node about the driver (plugin registration v1). The kubelet watches a directory for
 * sockets, asks each who it is and says whether it took it; after its own restart it does so again by itself.
 */
export class KubeletRegistration implements AsyncDisposable {
  readonly #options: RegistrationOptions;
  readonly #path: string;
  #server: CsiServer | undefined;
  #timer: NodeJS.Timeout | undefined;
  #checking: Promise<void> | undefined;
  #problem: string | undefined;

  private constructor(options: RegistrationOptions) {
    this.#options = options;
    this.#path = join(options.kubeletDir, "plugins_registry", `${DRIVER_NAME}-reg.sock`);
    this.#problem = this.#notAsked();
  }

  static async open(options: RegistrationOptions): Promise<KubeletRegistration> {
    const registration = new KubeletRegistration(options);
    registration.#server = await registration.#serve();
    registration.#timer = setInterval(() => {
      // Closing the old socket takes longer than a period when a client holds on to it.
      registration.#checking ??= registration.#check().finally(() => {
        registration.#checking = undefined;
      });
    }, options.checkMs ?? CHECK_MS);
    registration.#timer.unref();
    return registration;
  }

  /** Why the kubelet does not know the driver; undefined when it does. */
  get problem(): string | undefined {
    return this.#problem;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#checking;
    await this.#server?.close();
  }

  async #check(): Promise<void> {
    try {
      if (await exists(this.#path)) return;
      this.#problem = this.#notAsked();
      this.#options.logger.warn({ path: this.#path }, "the registration socket is gone; made anew");
      await this.#server?.close();
      this.#server = await this.#serve();
    } catch (error) {
      this.#problem = `the registration socket cannot be made: ${messageOf(error)}`;
      this.#options.logger.error({ path: this.#path, reason: messageOf(error) }, "not registered with the kubelet");
    }
  }

  #notAsked(): string {
    return `the kubelet has not asked at ${this.#path} yet; is that its directory?`;
  }

  #serve(): Promise<CsiServer> {
    const { endpoint, logger } = this.#options;
    const setProblem = (problem: string | undefined) => {
      this.#problem = problem;
    };
    const registration: Service<"registration"> = {
      async GetInfo() {
        const supportedVersions = ["1.0.0"];
        return { type: "CSIPlugin", name: DRIVER_NAME, endpoint: parseEndpoint(endpoint), supportedVersions };
      },
      async NotifyRegistrationStatus({ pluginRegistered, error }) {
        setProblem(pluginRegistered ? undefined : `the kubelet refuses the driver: ${error}`);
        if (pluginRegistered) logger.info({}, "registered with the kubelet");
        else logger.error({ reason: error }, "the kubelet refuses the driver");
        return {};
      },
    };
    return CsiServer.open({ endpoint: this.#path, services: { registration }, logger });
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    const failure = fromSystemError(error, "stat", path);
    if (hasCode(failure, "SYSTEM") && failure.details?.errno === "ENOENT") return false;
    throw failure;
  }
}
