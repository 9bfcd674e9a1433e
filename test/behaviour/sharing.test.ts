/** Serial sharing (design 6) on two real mounts of one memory: the writer moves, and nothing waits for itself. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";
import { FamfsError } from "../../src/base/index.ts";
import { FuseServer } from "../../src/fuse/index.ts";
import { skipWithoutMounts } from "../support/kernel.ts";
import { MountedVolume } from "../support/mounted-volume.ts";
import { simulatedVolume } from "../support/simulated-volume.ts";

const run = promisify(execFile);
const skip = skipWithoutMounts();

/** A store with one field: who writes. The holder is asked to hand over, as the node plugin asks it. */
class Writer {
  readonly nodes = new Map<string, MountedVolume>();
  #holder: string | undefined;
  #epoch = 0;
  #queue: Promise<unknown> = Promise.resolve();

  terms(name: string) {
    return {
      acquire: ({ timeoutMs, highestEpoch }: { timeoutMs: number; highestEpoch: number }) => {
        const turn = this.#queue.then(async () => {
          const holder = this.#holder;
          if (holder !== undefined && holder !== name) {
            const signal = AbortSignal.timeout(timeoutMs);
            if ((await this.nodes.get(holder)?.served.handOver({ forced: false, signal })) !== true) throw busy(holder);
          }
          this.#holder = name;
          this.#epoch = Math.max(this.#epoch, highestEpoch) + 1;
          return { epoch: this.#epoch };
        });
        this.#queue = turn.catch(() => {});
        return turn;
      },
      release: async () => {
        if (this.#holder === name) this.#holder = undefined;
      },
    };
  }
}

function busy(nodeId: string): FamfsError {
  return new FamfsError("OWNER_BUSY", `${nodeId} kept the grant`, { details: { nodeId } });
}

async function pair(coherent = true): Promise<AsyncDisposable & { a: MountedVolume; b: MountedVolume }> {
  await using stack = new AsyncDisposableStack();
  const fuse = stack.use(await FuseServer.open({ workers: 2 }));
  const volume = stack.use(await simulatedVolume({ dataBytes: 256 * 2 ** 20 }));
  const writer = new Writer();
  const mounts: MountedVolume[] = [];
  for (const nodeId of ["node-a", "node-b"]) {
    const mounted = stack.use(
      await MountedVolume.open(fuse, volume, {
        nodeId,
        terms: writer.terms(nodeId),
        exclusive: false,
        coherent,
        replayIntervalMs: 20,
        settings: { shared: true, sealDelayMs: 200, writerTimeoutMs: 1500, nameTimeoutMs: 1500, minimumHoldMs: 20 },
      }),
    );
    writer.nodes.set(nodeId, mounted);
    mounts.push(mounted);
  }
  const [a, b] = mounts;
  if (a === undefined || b === undefined) throw new Error("two mounts were made");
  const owned = stack.move();
  return { a, b, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

const shell = (script: string, ...mounts: MountedVolume[]) =>
  run("bash", ["-c", `set -e\n${script}`, "test", ...mounts.map(({ path }) => path)], {
    timeout: 25_000,
    killSignal: "SIGKILL",
  });

test("the writer moves to whoever writes, and each sees what the other did", { skip, timeout: 40_000 }, async () => {
  await using mounts = await pair();
  await shell(
    `for i in 1 2 3 4 5; do
       echo "a$i" > $1/file-a$i; mkdir $1/dir-a$i
       test "$(cat $2/file-a$i 2>/dev/null || (mkdir $2/now-$i; cat $2/file-a$i))" = "a$i"
       echo "b$i" > $2/file-b$i; mv $2/file-a$i $2/dir-a$i/moved
       mkdir $1/sync-$i; test "$(cat $1/file-b$i)" = "b$i"; test "$(cat $1/dir-a$i/moved)" = "a$i"
     done
     test "$(ls $1 | sort)" = "$(sleep 0.6; ls $2 | sort)"`,
    mounts.a,
    mounts.b,
  );
});

test("a file open for write keeps the grant: EAGAIN elsewhere, cached names and open files go on", {
  skip,
  timeout: 40_000,
}, async () => {
  await using mounts = await pair();
  const { stdout } = await shell(
    `echo cached > $2/cached; cat $2/cached
     exec 3> $1/held; echo writing >&3
     (mkdir $2/blocked 2>&1 || true) &
     sleep 0.3; cat $2/cached
     wait
     echo more >&3; exec 3>&-
     mkdir $2/free; cat $2/held`,
    mounts.a,
    mounts.b,
  );
  assert.match(stdout, /blocked.*Resource temporarily unavailable/);
  assert.deepEqual(stdout.split("\n").slice(0, 2), ["cached", "cached"]);
  assert.match(stdout, /writing\nmore/);
});

test("a name that is not cached is looked up when the name change before it gives up", {
  skip,
  timeout: 40_000,
}, async () => {
  await using mounts = await pair();
  const { stdout } = await shell(
    `echo there > $1/uncached; mkdir $1/marker
     until test -e $2/marker; do sleep 0.05; done
     exec 3> $1/held; echo writing >&3
     (mkdir $2/blocked 2>&1 || true) &
     sleep 0.3; cat $2/uncached
     wait; exec 3>&-`,
    mounts.a,
    mounts.b,
  );
  assert.match(stdout, /blocked.*Resource temporarily unavailable/);
  assert.match(stdout, /^there$/m);
});

test("without coherent caches each sees what the other wrote before it opens", { skip, timeout: 40_000 }, async () => {
  await using mounts = await pair(false);
  await shell(
    `echo "first" > $1/f; mkdir $2/there
     test "$(cat $2/f)" = first
     exec 3< $2/f
     printf FIRST | dd of=$1/f conv=notrunc status=none
     for i in $(seq 100); do test "$(cat $2/f)" = FIRST && break; sleep 0.02; done
     test "$(cat $2/f)" = FIRST; test "$(cat <&3)" = FIRST`,
    mounts.a,
    mounts.b,
  );
});

test("two busy writers in one directory both get on, and neither server hangs", { skip, timeout: 60_000 }, async () => {
  await using mounts = await pair();
  await shell(
    `work() { for i in $(seq 1 12); do for try in 1 2 3 4 5; do echo $i > $1/$2-$i && break; done; done; }
     work $1 a & work $2 b & wait
     sleep 0.8
     test $(ls $1 | wc -l) = 24; test $(ls $2 | wc -l) = 24
     for i in $(seq 1 12); do test $(cat $1/b-$i) = $i; test $(cat $2/a-$i) = $i; done`,
    mounts.a,
    mounts.b,
  );
});

test("a removal that was interrupted while it waited does not happen later", { skip, timeout: 40_000 }, async () => {
  await using mounts = await pair();
  await shell(
    `echo keep > $1/precious; sleep 0.6; cat $2/precious
     exec 3> $1/held
     timeout --signal=INT 0.4 rm $2/precious && exit 1 || test $? = 124
     exec 3>&-
     mkdir $2/next; sleep 0.3
     test "$(cat $1/precious)" = keep; test "$(cat $2/precious)" = keep`,
    mounts.a,
    mounts.b,
  );
});

test("a file that was replaced while its next writer waited is not what that writer is given", {
  skip,
  timeout: 60_000,
}, async () => {
  await using mounts = await pair();
  // A reader keeps the old file alive on the node whose writer waits.
  await shell(
    `for i in 1 2 3; do
       echo "old $i" > $1/f; mkdir $2/sync-$i; test "$(cat $2/f)" = "old $i"
       exec 3< $2/f
       echo "new $i" > $1/new; mv $1/new $1/f
       if test $i = 1; then echo "by b $i" > $2/f; else printf "by b $i" | dd of=$2/f conv=notrunc status=none; fi
       exec 3<&-
       mkdir $1/sync-back-$i; cat $1/f; cat $2/f
       test "$(head -c 6 $1/f)" = "by b $i"; test "$(head -c 6 $2/f)" = "by b $i"
     done`,
    mounts.a,
    mounts.b,
  );
});
