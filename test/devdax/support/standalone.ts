import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Command, Ended, Guest } from "./guest.ts";

const SOCKET = "/run/csi.sock";
const READY_MS = 90_000;

/** Controller and node of one guest; CSI calls come from a program in it. */
export interface Standalone extends AsyncDisposable {
  stop(): Promise<void>;
  /** Its answer; a refusal is an error. */
  call(service: string, method: string, request: object): Promise<CsiAnswer>;
  try(service: string, method: string, request: object): Promise<Ended>;
}

interface CsiAnswer {
  readonly volume?: { readonly volumeId: string };
  readonly publishContext?: object;
}

/** `famfs-csi standalone` as node a, over the device that is its pool. */
export async function standalone(guest: Guest, flags: string, t: TestContext): Promise<Standalone> {
  const all = `--endpoint unix://${SOCKET} --state-dir /run/state --node-id a ${flags}`;
  const command = guest.start(`exec env ${guest.famfs(`standalone ${all}`)}`);
  await until(command, async () => command.said().includes("serving"));
  const stop = async () => {
    command.kill("TERM");
    const { status } = await command.ended;
    if (status !== 0) t.diagnostic(command.said());
    assert.equal(status, 0);
  };
  let stopped: Promise<void> | undefined;
  const once = () => {
    stopped ??= stop();
    return stopped;
  };
  const program = (service: string, method: string, request: object) =>
    guest.program("test/devdax/guest/csi-call", `${SOCKET} ${service} ${method} '${JSON.stringify(request)}'`);
  return {
    stop: once,
    call: async (...of) => JSON.parse(await guest.sh(program(...of))) as CsiAnswer,
    try: (...of) => guest.try(program(...of)),
    [Symbol.asyncDispose]: once,
  };
}

export async function until(command: Command, ready: () => Promise<boolean>): Promise<void> {
  let ended = false;
  void command.ended.then(
    () => {
      ended = true;
    },
    () => {
      ended = true;
    },
  );
  for (const deadline = performance.now() + READY_MS; !(await ready()); await sleep(100)) {
    if (ended) throw new Error(`it ended:\n${command.said()}`);
    if (performance.now() > deadline) throw new Error(`not ready after ${READY_MS} ms:\n${command.said()}`);
  }
}
