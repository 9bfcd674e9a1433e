/** Serial sharing (design 6) on two real mounts of one memory: the writer moves, and nothing waits for itself. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
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
  /** undefined: whoever comes next takes the log over without asking, as after a lease that ran out. */
  holder: string | undefined;
  #epoch = 0;
  #queue: Promise<unknown> = Promise.resolve();

  terms(name: string) {
    return {
      acquire: ({ timeoutMs, highestEpoch }: { timeoutMs: number; highestEpoch: number }) => {
        const turn = this.#queue.then(async () => {
          const { holder } = this;
          if (holder !== undefined && holder !== name) {
            const signal = AbortSignal.timeout(timeoutMs);
            if ((await this.nodes.get(holder)?.served.handOver({ forced: false, signal })) !== true) throw busy(holder);
          }
          this.holder = name;
          this.#epoch = Math.max(this.#epoch, highestEpoch) + 1;
          return { epoch: this.#epoch };
        });
        this.#queue = turn.catch(() => {});
        return turn;
      },
      release: async () => {
        if (this.holder === name) this.holder = undefined;
      },
    };
  }
}

function busy(nodeId: string): FamfsError {
  return new FamfsError("OWNER_BUSY", `${nodeId} kept the grant`, { details: { nodeId } });
}

interface Pair extends AsyncDisposable {
  readonly a: MountedVolume;
  readonly b: MountedVolume;
  readonly writer: Writer;
}

/** Long, so that a slow machine is not taken for a writer that keeps the grant. */
const PATIENT_MS = 20_000;
/** For tests that wait until it is over. */
const IMPATIENT_MS = 1500;

async function pair({ coherent = true, waitMs = PATIENT_MS } = {}): Promise<Pair> {
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
        settings: { shared: true, sealDelayMs: 200, writerTimeoutMs: waitMs, nameTimeoutMs: waitMs, minimumHoldMs: 20 },
      }),
    );
    writer.nodes.set(nodeId, mounted);
    mounts.push(mounted);
  }
  const [a, b] = mounts;
  if (a === undefined || b === undefined) throw new Error("two mounts were made");
  const owned = stack.move();
  return { a, b, writer, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Tries a command until it succeeds. */
const UNTIL = `until_it() { until "$@" 2> /dev/null > /dev/null; do sleep 0.02; done; }`;

const shell = (script: string, ...mounts: MountedVolume[]) =>
  run("bash", ["-c", `set -e\n${UNTIL}\n${script}`, "test", ...mounts.map(({ path }) => path)], {
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
     until test "$(ls $1 | sort)" = "$(ls $2 | sort)"; do sleep 0.02; done`,
    mounts.a,
    mounts.b,
  );
});

test("a file open for write keeps the grant: a change of names elsewhere waits, cached names and open files go on", {
  skip,
  timeout: 40_000,
}, async () => {
  await using mounts = await pair();
  const { stdout } = await shell(
    `echo cached > $2/cached; cat $2/cached
     exec 3> $1/held; echo writing >&3
     mkdir $2/waiting 3>&- & sleep 0.3
     cat $2/cached; echo more >&3
     test -n "$(jobs -rp)"; test ! -e $1/waiting
     exec 3>&-; wait -n; test -d $2/waiting; cat $2/held`,
    mounts.a,
    mounts.b,
  );
  assert.equal(stdout, "cached\ncached\nwriting\nmore\n");
});

test("a change of names that waits in vain is answered with EAGAIN, and a later one succeeds", {
  skip,
  timeout: 40_000,
}, async () => {
  await using mounts = await pair({ waitMs: IMPATIENT_MS });
  const { stdout } = await shell(
    `exec 3> $1/held
     mkdir $2/blocked 2>&1 && exit 1
     exec 3>&-; until_it mkdir $2/free; test ! -e $1/blocked`,
    mounts.a,
    mounts.b,
  );
  assert.match(stdout, /blocked.*Resource temporarily unavailable/);
});

test("a name that is not cached is looked up when the name change before it gives up", {
  skip,
  timeout: 40_000,
}, async () => {
  await using mounts = await pair({ waitMs: IMPATIENT_MS });
  const { stdout } = await shell(
    `echo there > $1/uncached; mkdir $1/marker
     until_it test -e $2/marker
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
  await using mounts = await pair({ coherent: false });
  await shell(
    `echo "first" > $1/f; mkdir $2/there
     test "$(cat $2/f)" = first
     exec 3< $2/f
     printf FIRST | dd of=$1/f conv=notrunc status=none
     until test "$(cat $2/f)" = FIRST; do sleep 0.02; done
     test "$(cat <&3)" = FIRST`,
    mounts.a,
    mounts.b,
  );
});

test("two busy writers in one directory both get on, and neither server hangs", { skip, timeout: 60_000 }, async () => {
  await using mounts = await pair();
  await shell(
    `work() { for i in $(seq 1 12); do for try in 1 2 3 4 5; do echo $i > $1/$2-$i && break; done; done; }
     work $1 a & work $2 b & wait
     until test $(ls $1 | wc -l) = 24 && test $(ls $2 | wc -l) = 24; do sleep 0.02; done
     for i in $(seq 1 12); do test $(cat $1/b-$i) = $i; test $(cat $2/a-$i) = $i; done`,
    mounts.a,
    mounts.b,
  );
});

test("a removal that was interrupted while it waited does not happen later", { skip, timeout: 40_000 }, async () => {
  await using mounts = await pair();
  await shell(
    `echo keep > $1/precious; until_it cat $2/precious
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

test("a name that another node keeps replacing can be opened for write all the time", {
  skip,
  timeout: 60_000,
}, async () => {
  await using mounts = await pair();
  const { stderr } = await shell(
    `echo 0 > $1/f; until_it cat $2/f
     again() { for try in $(seq 10); do "$@" && return; done; return 1; }
     replace() { echo $2 > $1/new && mv $1/new $1/f; }
     overwrite() { echo $2 > $1/f; }
     (for i in $(seq 40); do again replace $1 a$i; done) &
     (for i in $(seq 40); do again overwrite $2 b$i; done) &
     wait -n; wait -n`,
    mounts.a,
    mounts.b,
  );
  assert.doesNotMatch(stderr, /Stale file handle/);
});

test("a descriptor and a mapping that lost the log never write again, whoever writes the file since", {
  skip,
  timeout: 60_000,
}, async () => {
  await using mounts = await pair();
  const { a, b, writer } = mounts;
  await shell(`printf 0123456789 > $1/f; until_it cat $2/f`, a, b);
  const program = spawn("python3", ["-uc", LATE_WRITER, a.path], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface(program.stdout)[Symbol.asyncIterator]();
  const next = async () => (await lines.next()).value as string;
  assert.equal(await next(), "open");
  writer.holder = undefined;
  await shell(`printf BBBBBBBBBB | dd of=$2/f conv=notrunc status=none; mkdir $1/unrelated`, a, b);
  program.stdin.end("\n");
  assert.equal(await next(), "write ESTALE");
  assert.equal(await next(), "other handle ok");
  assert.equal(await next(), "msync ESTALE");
  assert.equal(await next(), "fsync of the directory ESTALE 0");
  await once(program, "exit");
  await shell(`for on in $1 $2; do until test "$(cat $on/f)" = BBBBBBBBBC; do sleep 0.02; done; done`, a, b);
});

const LATE_WRITER = `
import errno, mmap, os, sys
path = sys.argv[1] + "/f"
def outcome(call, *args):
    try:
        call(*args)
        return "ok"
    except OSError as error:
        return errno.errorcode[error.errno]
def sync():
    directory = os.open(sys.argv[1], os.O_RDONLY)
    try:
        os.fsync(directory)
        return "0"
    except OSError as error:
        return errno.errorcode[error.errno]
    finally:
        os.close(directory)
fd = os.open(path, os.O_RDWR)
memory = mmap.mmap(fd, 10)
unsealed = open(sys.argv[1] + "/never sealed", "w")
print("open")
input()
print("write", outcome(os.pwrite, fd, b"late", 0))
other = os.open(path, os.O_RDWR)
print("other handle", outcome(os.pwrite, other, b"C", 9))
memory[0:4] = b"late"
print("msync", outcome(memory.flush))
print("fsync of the directory", sync(), sync())
`;
