/**
 * The driver in a cluster, started once for all test files of this process: `npm run test:e2e` runs those of
 * test/e2e/driver in one. What a group makes is in a namespace of its own.
 */
import { after, afterEach, before, describe } from "node:test";
import type { Cluster } from "../cluster.ts";
import { NAMESPACE, startDriverCluster } from "./driver.ts";
import { missingCluster } from "./programs.ts";
import { report } from "./report.ts";
import { Space } from "./space.ts";

const skip = missingCluster();

/** A test of pods that start and stop; one that takes longer hangs. */
const TEST_MS = 240_000;

let cluster: Cluster | undefined;

if (skip === false) {
  // At the root: before the first and after the last test of the process.
  before(async () => {
    cluster = await startDriverCluster();
  });
  after(async () => {
    await cluster?.[Symbol.asyncDispose]();
  });
}

/** What the tests of a group are given; its members are there once the first of them runs. */
export interface Group {
  readonly cluster: Cluster;
  readonly space: Space;
}

/** Tests about one subject, which share a namespace of the subject's name. */
export function describeDriver(subject: string, define: (group: Group) => void): void {
  describe(subject, { skip }, () => {
    let space: Space | undefined;
    const there = <T>(thing: T | undefined): T => {
      if (thing === undefined) throw new Error("only tests may ask for it");
      return thing;
    };
    const group: Group = {
      get cluster() {
        return there(cluster);
      },
      get space() {
        return there(space);
      },
    };
    before(async () => {
      const { api } = group.cluster;
      space = await Space.create(subject.replaceAll(" ", "-"), api, (args) => group.cluster.kubectl(args));
    });
    afterEach(async (context) => {
      if ("passed" in context && context.passed === false) process.stderr.write(await report(group.cluster, NAMESPACE));
    });
    after(async () => {
      await space?.remove();
    });
    define(group);
  });
}

export const limits = { timeout: TEST_MS } as const;
