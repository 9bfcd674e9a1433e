/** One life of the controller's process: from its start over idling to calls. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CsiClient } from "../../src/csi/index.ts";
import { NODE_NAMESPACE } from "../../test/e2e/api-server.ts";
import { startCommand } from "../../test/support/program.ts";
import { residentMegabytes } from "../process.ts";
import type { Population } from "./population.ts";

export interface Times {
  readonly p50: number;
  readonly p95: number;
}

export interface Figures {
  readonly volumes: number;
  readonly readyMs: number;
  readonly residentMb: number;
  readonly peakMb: number;
  readonly idleCpuSecondsPerMinute: number;
  readonly createMs: Times;
  readonly publishMs: Times;
  readonly listMs: Times;
  readonly capacityMs: Times;
}

const ACCOUNT = "bench-controller";
const READY_TIMEOUT_MS = 180_000;
const IDLE_MS = 15_000;
/** Calls of each kind; the first ones are not counted. */
const CALLS = 60;
const WARM_UP = 10;

const capability = {
  mount: {},
  accessType: "mount" as const,
  accessMode: { mode: "MULTI_NODE_MULTI_WRITER" as const },
};

/** `program` is the main file of the compiled program, as the image has it. */
export async function measureController(program: string, population: Population): Promise<Figures> {
  const { server, volumes, nodeIds } = population;
  const endpoint = `unix://${join(server.directory, "controller.sock")}`;
  const token = await accountToken(server);
  const began = performance.now();
  const running = startInPod(server, token, [
    process.execPath,
    program,
    "controller",
    `--endpoint=${endpoint}`,
    "--store=kubernetes",
    `--node-namespace=${NODE_NAMESPACE}`,
    "--identity=bench",
  ]);
  try {
    const pid = running.child.pid;
    if (pid === undefined) throw new Error("the controller did not start");
    using client = CsiClient.open(endpoint);
    await untilReady(client, () => running.said());
    const readyMs = performance.now() - began;

    // What follows a start is over.
    await sleep(5_000);
    const cpuBefore = cpuSeconds(pid);
    await sleep(IDLE_MS);
    const idleCpuSecondsPerMinute = ((cpuSeconds(pid) - cpuBefore) * 60_000) / IDLE_MS;

    const names = Array.from({ length: CALLS }, (_, index) => `bench-${volumes}-${index}`);
    const create = await timed(names, (name) =>
      client.call("controller", "CreateVolume", {
        name,
        volumeCapabilities: [capability],
        capacityRange: { requiredBytes: 32n << 20n },
      }),
    );
    const publish = await timed(create.answers, ({ volume }, index) =>
      client.call("controller", "ControllerPublishVolume", {
        volumeId: volume?.volumeId ?? "",
        nodeId: nodeIds[index % nodeIds.length] ?? "",
        volumeCapability: capability,
      }),
    );
    let startingToken = "";
    const list = await timed(names, async () => {
      const page = await client.call("controller", "ListVolumes", { maxEntries: 500, startingToken });
      startingToken = page.nextToken;
    });
    const capacity = await timed(names, () => client.call("controller", "GetCapacity", {}));
    const figures = {
      volumes,
      readyMs,
      residentMb: residentMegabytes(pid),
      peakMb: peakMegabytes(pid),
      idleCpuSecondsPerMinute,
      createMs: create.times,
      publishMs: publish.times,
      listMs: list.times,
      capacityMs: capacity.times,
    };
    await running.stop();
    return figures;
  } catch (error) {
    running.child.kill("SIGKILL"); // what went wrong first is what to tell
    throw error;
  }
}

/** With the files of a service account where a pod has them: a kubeconfig would load a library of 90 MB. */
const AS_A_POD = `
  mount -t tmpfs none /run && cd /run && mkdir -p secrets/kubernetes.io/serviceaccount && cd secrets/kubernetes.io/serviceaccount &&
  cp "$CA" ca.crt && printf %s "$TOKEN" > token && printf default > namespace && unset TOKEN && exec "$@"`;

async function accountToken(server: Population["server"]): Promise<string> {
  await server.kubectl(["create", "serviceaccount", ACCOUNT]).catch(() => {}); // there since the last life
  const binding = ["create", "clusterrolebinding", ACCOUNT, "--clusterrole=cluster-admin"];
  await server.kubectl([...binding, `--serviceaccount=default:${ACCOUNT}`]).catch(() => {});
  return (await server.kubectl(["create", "token", ACCOUNT])).trim();
}

function startInPod(server: Population["server"], token: string, command: readonly string[]) {
  return startCommand(["unshare", "--mount", "--propagation=private", "sh", "-c", AS_A_POD, "sh", ...command], {
    CA: server.plane.certificateAuthority,
    TOKEN: token,
    NODE_OPTIONS: "--max-semi-space-size=4", // as in the chart
    KUBERNETES_SERVICE_HOST: "127.0.0.1",
    KUBERNETES_SERVICE_PORT: String(server.plane.apiPort),
  });
}

async function untilReady(client: CsiClient, said: () => string): Promise<void> {
  for (const until = performance.now() + READY_TIMEOUT_MS; ; await sleep(20)) {
    try {
      if ((await client.call("identity", "Probe", {})).ready?.value === true) return;
    } catch {
      // its socket is not there yet
    }
    if (performance.now() > until) throw new Error(`the controller is not ready:\n${said()}`);
  }
}

async function timed<T, R>(
  items: readonly T[],
  work: (item: T, index: number) => Promise<R>,
): Promise<{ readonly times: Times; readonly answers: readonly R[] }> {
  const samples: number[] = [];
  const answers: R[] = [];
  for (const [index, item] of items.entries()) {
    const began = performance.now();
    answers.push(await work(item, index));
    if (index >= WARM_UP) samples.push(performance.now() - began);
  }
  const sorted = samples.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor(sorted.length * share)] ?? Number.NaN;
  return { times: { p50: at(0.5), p95: at(0.95) }, answers };
}

/** In user and system mode, from the clock ticks (100 a second) of /proc. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function peakMegabytes(pid: number): number {
  const kib = /^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return (Number(kib) * 1024) / 1e6;
}
