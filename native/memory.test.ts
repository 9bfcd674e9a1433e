import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { Worker } from "node:worker_threads";
import { native } from "./index.ts";

const MIB = 2 ** 20;
const UNIT = 2 * MIB;

let folder = "";
before(() => {
  folder = mkdtempSync(join(tmpdir(), "famfs-memory-"));
});
after(() => rmSync(folder, { recursive: true }));

/** A sparse file of `length` bytes and a window over all of it. */
function open(name: string, length: number, writable = true): { fd: number; window: number } & Disposable {
  const fd = openSync(join(folder, name), "w+");
  ftruncateSync(fd, length);
  const window = native.windowMap(fd, 0, length, writable);
  return {
    fd,
    window,
    [Symbol.dispose]() {
      try {
        native.windowUnmap(window);
      } catch (error) {
        assert.equal((error as { code?: string }).code, "EBADF"); // the test closed it
      }
      closeSync(fd);
    },
  };
}

const fails = (code: string, call: () => unknown) => assert.throws(call, { code });

describe("windows", () => {
  it("copy in and out, and the file has the bytes", () => {
    using file = open("copy", UNIT);
    const bytes = Buffer.from("shared memory");
    native.copyIn(file.window, 12345, bytes);
    const back = Buffer.alloc(bytes.length);
    native.copyOut(file.window, 12345, back);
    assert.deepEqual(back, bytes);
    readSync(file.fd, back.fill(0), 0, back.length, 12345);
    assert.deepEqual(back, bytes);
  });

  it("stores durably at every alignment and touches nothing beside it", () => {
    using file = open("durable", UNIT);
    for (const length of [0, 1, 15, 16, 63, 64, 65, 128, 544, 5000]) {
      for (let offset = 0; offset < 130; offset += 13) {
        const around = Buffer.alloc(8192, 0xee);
        native.copyIn(file.window, 0, around);
        const bytes = Buffer.from(Array.from({ length }, (_, at) => (at * 7 + offset) & 0xff));
        native.copyInDurable(file.window, offset, bytes);
        const expected = Buffer.from(around);
        expected.set(bytes, offset);
        const found = Buffer.alloc(8192);
        native.copyOut(file.window, 0, found);
        assert.ok(found.equals(expected), `length ${length} at ${offset}`);
        native.zero(file.window, offset, length);
        expected.fill(0, offset, offset + length);
        native.copyOut(file.window, 0, found);
        assert.ok(found.equals(expected), `zero of ${length} at ${offset}`);
      }
    }
  });

  it("load and store 64 bits, aligned only", () => {
    using file = open("words", UNIT);
    native.store64(file.window, 40, 0xfedcba9876543210n);
    assert.equal(native.load64(file.window, 40), 0xfedcba9876543210n);
    const bytes = Buffer.alloc(8);
    native.copyOut(file.window, 40, bytes);
    assert.equal(bytes.toString("hex"), "1032547698badcfe");
    fails("EINVAL", () => native.load64(file.window, 41));
    fails("EINVAL", () => native.store64(file.window, 44, 1n));
    assert.throws(() => native.store64(file.window, 40, 2n ** 64n), TypeError);
    assert.throws(() => native.store64(file.window, 40, -1n), TypeError);
  });

  it("flush and invalidate leave the bytes", () => {
    using file = open("flush", UNIT);
    const bytes = Buffer.alloc(10_000, 0x5a);
    native.copyIn(file.window, 77, bytes);
    native.flush(file.window, 77, bytes.length);
    native.invalidate(file.window, 77, bytes.length);
    const back = Buffer.alloc(bytes.length);
    native.copyOut(file.window, 77, back);
    assert.deepEqual(back, bytes);
  });

  it("refuse what is outside, the end included", () => {
    using file = open("range", UNIT);
    const one = new Uint8Array(1);
    native.copyOut(file.window, UNIT - 1, one);
    native.copyOut(file.window, UNIT, new Uint8Array(0));
    fails("ERANGE", () => native.copyOut(file.window, UNIT, one));
    fails("ERANGE", () => native.copyIn(file.window, UNIT - 1, new Uint8Array(2)));
    fails("ERANGE", () => native.copyInDurable(file.window, Number.MAX_SAFE_INTEGER, one));
    fails("ERANGE", () => native.flush(file.window, 0, UNIT + 1));
    fails("ERANGE", () => native.invalidate(file.window, UNIT, 1));
    fails("ERANGE", () => native.zero(file.window, 1, UNIT));
    fails("ERANGE", () => native.load64(file.window, UNIT));
    fails("ERANGE", () => native.store64(file.window, UNIT, 0n));
    fails("ERANGE", () => native.populate(file.window, UNIT, 1));
    fails("ERANGE", () => native.forgetPopulated(file.window, 0, UNIT + 1));
    for (const wrong of [-1, 0.5, Number.NaN, 2 ** 53]) {
      assert.throws(() => native.copyOut(file.window, wrong, one), TypeError);
    }
    assert.throws(() => native.copyOut(file.window, 0, new Uint16Array(1) as unknown as Uint8Array), TypeError);
  });

  it("refuse stores when mapped read-only", () => {
    using file = open("readonly", UNIT, false);
    const one = new Uint8Array(1);
    native.copyOut(file.window, 0, one);
    fails("EROFS", () => native.copyIn(file.window, 0, one));
    fails("EROFS", () => native.copyInDurable(file.window, 0, one));
    fails("EROFS", () => native.zero(file.window, 0, 1));
    fails("EROFS", () => native.store64(file.window, 0, 0n));
  });

  it("are gone after unmapping, and their number does not come back", () => {
    using file = open("closed", UNIT);
    native.windowUnmap(file.window);
    const one = new Uint8Array(1);
    fails("EBADF", () => native.copyOut(file.window, 0, one));
    fails("EBADF", () => native.copyIn(file.window, 0, one));
    fails("EBADF", () => native.load64(file.window, 0));
    fails("EBADF", () => native.flush(file.window, 0, 1));
    fails("EBADF", () => native.populate(file.window, 0, 1));
    fails("EBADF", () => native.windowUnmap(file.window));
    fails("EBADF", () => native.copyOut(0, 0, one));
    const seen = new Set([file.window]);
    for (let round = 0; round < 5000; round++) {
      const window = native.windowMap(file.fd, 0, 4096, false);
      assert.ok(window !== 0 && !seen.has(window));
      seen.add(window);
      native.windowUnmap(window);
    }
    fails("EBADF", () => native.copyOut(file.window, 0, one));
  });

  it("say what mmap refused", () => {
    using file = open("mmap", UNIT);
    fails("EBADF", () => native.windowMap(9999, 0, 4096, false));
    fails("EINVAL", () => native.windowMap(file.fd, 0, 0, false));
    fails("EINVAL", () => native.windowMap(file.fd, 1, 4096, false));
    fails("ENOMEM", () => native.windowMap(file.fd, 0, 2 ** 50, false));
  });
});

describe("a memory error", () => {
  const truncated = (name: string) => {
    const file = open(name, 2 * UNIT);
    native.copyInDurable(file.window, 0, Buffer.alloc(2 * UNIT, 1)); // populates nothing
    ftruncateSync(file.fd, UNIT);
    return file;
  };

  it("is EIO from every call, and the process lives", () => {
    using file = truncated("sigbus");
    const some = new Uint8Array(200);
    for (let round = 0; round < 3; round++) {
      fails("EIO", () => native.copyOut(file.window, UNIT, some));
      fails("EIO", () => native.copyOut(file.window, UNIT - 100, some)); // half of it is there
      fails("EIO", () => native.copyIn(file.window, UNIT, some));
      fails("EIO", () => native.copyInDurable(file.window, UNIT, some));
      fails("EIO", () => native.flush(file.window, UNIT, 200));
      fails("EIO", () => native.invalidate(file.window, UNIT, 200));
      fails("EIO", () => native.zero(file.window, UNIT, 200));
      fails("EIO", () => native.load64(file.window, UNIT));
      fails("EIO", () => native.store64(file.window, UNIT, 0n));
      fails("EIO", () => native.populate(file.window, UNIT, 200));
    }
    native.copyOut(file.window, UNIT - 200, some);
    assert.ok(some.every((byte) => byte === 1));
  });

  it("is EIO in worker threads, while others go on", async () => {
    using file = truncated("workers");
    const code = `
      const { workerData, parentPort } = require("node:worker_threads");
      const native = require(workerData.addon);
      let errors = 0;
      for (let round = 0; round < 2000; round++) {
        try { native.copyOut(workerData.window, workerData.offset, new Uint8Array(64)); }
        catch (error) { if (error.code === "EIO") errors++; else throw error; }
      }
      parentPort.postMessage(errors);`;
    const run = (offset: number) => {
      const { promise, resolve, reject } = Promise.withResolvers<number>();
      const addon = join(import.meta.dirname, "build", "famfs.node");
      const worker = new Worker(code, { eval: true, workerData: { addon, window: file.window, offset } });
      worker.once("message", resolve).once("error", reject);
      return promise;
    };
    assert.deepEqual(await Promise.all([run(UNIT), run(0), run(UNIT + 4096)]), [2000, 0, 2000]);
  });

  it("that only reports bad memory is advice: nobody dies, and the window says where", () => {
    // What the kernel sends to each process that has the page mapped, from a process to itself.
    const source = join(folder, "report.c");
    writeFileSync(
      source,
      `#include <node_api.h>
      #include <signal.h>
      #include <sys/syscall.h>
      #include <unistd.h>
      static napi_value report(napi_env env, napi_callback_info info) {
        size_t count = 1;
        napi_value value;
        double address;
        napi_get_cb_info(env, info, &count, &value, NULL, NULL);
        napi_get_value_double(env, value, &address);
        siginfo_t advice = {.si_signo = SIGBUS, .si_code = BUS_MCEERR_AO, .si_addr = (void *)(uintptr_t)address};
        syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), SIGBUS, &advice);
        return NULL;
      }
      NAPI_MODULE_INIT() {
        napi_value function;
        napi_create_function(env, NULL, 0, report, NULL, &function);
        return function;
      }`,
    );
    const reporter = join(folder, "report.node");
    const headers = createRequire(import.meta.url)("node-api-headers").include_dir;
    execFileSync("cc", ["-D_GNU_SOURCE", "-fPIC", "-shared", "-isystem", headers, "-o", reporter, source]);
    const addon = join(import.meta.dirname, "build", "famfs.node");
    const device = join(folder, "reported");
    const script = `
      const { openSync, ftruncateSync, readFileSync } = require("node:fs");
      const [native, report] = [require(${JSON.stringify(addon)}), require(${JSON.stringify(reporter)})];
      const fd = openSync(${JSON.stringify(device)}, "w+");
      ftruncateSync(fd, ${2 * UNIT});
      const [first, second] = [native.windowMap(fd, 0, ${UNIT}, true), native.windowMap(fd, ${UNIT}, ${UNIT}, true)];
      const seen = () => [native.reportedBad(first) ?? "none", native.reportedBad(second) ?? "none"].join();
      const before = seen();
      const line = readFileSync("/proc/self/maps", "latin1").split("\\n").find((line) =>
        line.includes(${JSON.stringify(device)}) && line.split(" ")[2] === ${JSON.stringify(UNIT.toString(16).padStart(8, "0"))});
      report(Number("0x" + line.split("-")[0]) + 8192);
      native.copyIn(second, 8192, new Uint8Array(64)); // what the report says is bad is still guarded
      console.log(before, seen());`;
    const done = spawnSync(process.execPath, ["-e", script], { encoding: "utf8" });
    assert.deepEqual([done.signal, done.stderr, done.stdout], [null, "", "none,none none,8192\n"]);
  });

  it("outside a guarded call still ends the process", () => {
    // The former action is kept: kill -BUS of a process that has the addon loaded kills it with that signal.
    const addon = join(import.meta.dirname, "build", "famfs.node");
    const script = `require(${JSON.stringify(addon)}); process.kill(process.pid, "SIGBUS"); setTimeout(() => {}, 10000)`;
    assert.equal(spawnSync(process.execPath, ["-e", script]).signal, "SIGBUS");
  });
});

describe("population", () => {
  /** Mapped-in bytes of the file's mapping, from the kernel. */
  const residentBytes = (name: string) => {
    const lines = readFileSync("/proc/self/smaps", "utf8").split("\n");
    const start = lines.findIndex((line) => line.endsWith(join(folder, name)));
    const rss = lines.slice(start).find((line) => line.startsWith("Rss:"));
    return Number(/[0-9]+/.exec(rss ?? "")?.[0]) * 1024;
  };

  it("maps units in once, and not much more than is wanted, until they are forgotten", async () => {
    const populateUnit = 64 * 1024; // POPULATE_UNIT of memory.c
    using file = open("populate", 4 * UNIT);
    const resident = () => residentBytes("populate");
    assert.equal(resident(), 0);
    native.populate(file.window, UNIT + 5, 0);
    assert.equal(resident(), 0);
    native.populate(file.window, UNIT + 5, 1);
    const one = resident();
    // The kernel may map neighbours that it has in memory.
    assert.ok(one >= populateUnit && one <= UNIT / 2, `${one}`);
    native.populate(file.window, 3 * UNIT - populateUnit - 1, populateUnit + 2);
    const two = resident();
    assert.ok(two >= one + 3 * populateUnit && two <= one + UNIT, `${two}`);
    await native.punchHole(file.fd, UNIT, UNIT / 2);
    const punched = resident();
    assert.ok(punched <= two - populateUnit, `${punched}`);
    native.populate(file.window, UNIT, 1); // remembered, so nothing happens
    assert.equal(resident(), punched);
    native.forgetPopulated(file.window, UNIT, UNIT);
    native.populate(file.window, UNIT, 1);
    assert.ok(resident() >= punched + populateUnit);
  });

  it("serves the good part of a unit whose rest is bad", () => {
    using file = open("partly", UNIT);
    ftruncateSync(file.fd, UNIT / 2);
    native.populate(file.window, 0, 4096);
    fails("EIO", () => native.populate(file.window, UNIT / 2, 1));
  });
});

describe("holes", () => {
  it("read as zeroes and give the memory back", async () => {
    using file = open("hole", 4 * UNIT);
    native.copyIn(file.window, 0, Buffer.alloc(4 * UNIT, 7));
    const before = statSync(join(folder, "hole")).blocks;
    await native.punchHole(file.fd, UNIT, 2 * UNIT);
    assert.ok(statSync(join(folder, "hole")).blocks <= before - (2 * UNIT) / 512);
    const back = new Uint8Array(3);
    native.copyOut(file.window, UNIT - 1, back);
    assert.deepEqual([...back], [7, 0, 0]);
  });

  it("are refused where the file does not allow them", async () => {
    const fd = openSync(join(folder, "hole-ro"), "w");
    writeSync(fd, "x");
    closeSync(fd);
    const readonly = openSync(join(folder, "hole-ro"), "r");
    await assert.rejects(native.punchHole(readonly, 0, 1), { code: "EBADF" });
    closeSync(readonly);
    fails("EBADF", () => native.punchHole(9999, 0, 1));
  });

  it("make a window of 1 TiB cost nothing", async () => {
    const length = 2 ** 40;
    using file = open("huge", length);
    const rss = process.memoryUsage.rss();
    native.copyIn(file.window, length - 3, Buffer.from("end"));
    native.copyIn(file.window, length / 2, Buffer.from("middle"));
    await native.punchHole(file.fd, 0, length / 2);
    const back = Buffer.alloc(3);
    native.copyOut(file.window, length - 3, back);
    assert.equal(back.toString(), "end");
    fails("ERANGE", () => native.copyOut(file.window, length - 2, back));
    assert.ok(statSync(join(folder, "huge")).blocks * 512 < MIB);
    assert.ok(process.memoryUsage.rss() - rss < 64 * MIB);
  });
});

describe("zeroing on a thread of its own", () => {
  it("zeroes exactly the range", async () => {
    using file = open("zero-range", 8 * UNIT);
    native.copyIn(file.window, 0, Buffer.alloc(8 * UNIT, 7));
    await native.zeroRange(file.window, 5, 6 * UNIT);
    const back = Buffer.alloc(8 * UNIT);
    native.copyOut(file.window, 0, back);
    const expected = Buffer.alloc(8 * UNIT, 7);
    expected.fill(0, 5, 5 + 6 * UNIT);
    assert.ok(back.equals(expected));
    await native.zeroRange(file.window, 0, 0);
  });

  it("rejects what is outside, closed, read-only or bad", async () => {
    using file = open("zero-bad", 2 * UNIT);
    using readonly = open("zero-readonly", UNIT, false);
    await assert.rejects(native.zeroRange(file.window, UNIT, UNIT + 1), { code: "ERANGE" });
    await assert.rejects(native.zeroRange(readonly.window, 0, 1), { code: "EROFS" });
    await assert.rejects(native.zeroRange(0, 0, 1), { code: "EBADF" });
    ftruncateSync(file.fd, UNIT);
    await assert.rejects(native.zeroRange(file.window, 0, 2 * UNIT), { code: "EIO" });
  });

  it("ends soon when the window is closed meanwhile", async () => {
    using file = open("zero-closed", 128 * UNIT);
    const zeroed = native.zeroRange(file.window, 0, 128 * UNIT).then(
      () => "done",
      (error: { code?: string }) => error.code,
    );
    native.windowUnmap(file.window);
    assert.ok(["done", "EBADF"].includes((await zeroed) ?? ""));
  });
});
