import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { skipWithoutMounts } from "../../test/support/kernel.ts";
import { GIB, MIB, TIB } from "../base/index.ts";
import { deviceNumbers, readDaxAttributes } from "./dax-attributes.ts";
import { lockDevice } from "./device-lock.ts";
import {
  Device,
  describeContents,
  eraseRegion,
  findDevice,
  formatVolume,
  HEAD_LENGTH,
  initDevice,
  openDevice,
  parseDeviceSpec,
  readLabel,
  scanDevices,
  scanVolumes,
  showContents,
  VolumeMedia,
} from "./index.ts";

let folder = "";
before(() => {
  folder = mkdtempSync(join(tmpdir(), "famfs-device-"));
});
after(() => rmSync(folder, { recursive: true }));

const code = (expected: string) => ({ code: expected });
const at = (name: string) => join(folder, name);
const open = (name: string, size: string, writable = true) =>
  openDevice(`file://${at(name)}?size=${size}`, { writable });
const label = (uuid: string) => ({ uuid, pool: "pool", incarnation: 1, createdSeconds: 5, force: false });
const volume = {
  uuid: "aaaaaaaa-0000-4000-8000-000000000001",
  name: "v",
  uid: 1,
  gid: 2,
  mode: 0o750,
  generation: 3,
  createdSeconds: 4,
};

describe("what a device is called", () => {
  it("is a path, a URL with a size, or a UUID", () => {
    assert.deepEqual(parseDeviceSpec("/dev/dax0.0"), { type: "path", path: "/dev/dax0.0", sizeBytes: undefined });
    assert.deepEqual(parseDeviceSpec("pool 1"), { type: "path", path: "pool 1", sizeBytes: undefined });
    assert.deepEqual(parseDeviceSpec("file:///dev/shm/pool%200?size=4Gi"), {
      type: "path",
      path: "/dev/shm/pool 0",
      sizeBytes: 4 * GIB,
    });
    assert.deepEqual(parseDeviceSpec("file:///x?size=1Gi&caches=host-1"), {
      type: "path",
      path: "/x",
      sizeBytes: GIB,
      cachesOf: "host-1",
    });
    assert.deepEqual(parseDeviceSpec("file:///x"), { type: "path", path: "/x", sizeBytes: undefined });
    assert.deepEqual(parseDeviceSpec("AAAAAAAA-0000-4000-8000-000000000001"), { type: "uuid", uuid: volume.uuid });
  });

  for (const wrong of [
    "",
    "a\0b",
    "http://host/x",
    "file://host/x",
    "file:///",
    "file:///x?size=4Q",
    "file:///x?size=",
    "file:///x?sise=4Gi",
    "file:///x?size=1&size=2",
    "file:///x?caches=",
    "file:///x#y",
    "file:///%00",
    "file:///%ff%2f",
  ]) {
    it(`is not ${JSON.stringify(wrong)}`, () => {
      assert.throws(() => parseDeviceSpec(wrong), code("INVALID_ARGUMENT"));
    });
  }
});

describe("a simulated device", () => {
  it("is created with its size, and kept", async () => {
    {
      await using device = await open("new", "64Mi");
      assert.deepEqual([device.kind, device.sizeBytes, device.alignBytes], ["file", 64 * MIB, 2 * MIB]);
      assert.equal(statSync(device.path).mode & 0o777, 0o600);
    }
    await using again = await open("new", "64Mi");
    assert.equal(again.sizeBytes, 64 * MIB);
    await assert.rejects(open("new", "32Mi"), /has 67108864 bytes, 33554432 were asked for/);
    await using plain = await openDevice(at("new"), { writable: false });
    assert.equal(plain.identity, again.identity);
  });

  it("is refused when it is missing, too small or something else", async () => {
    await assert.rejects(openDevice(at("none"), { writable: true }), code("DEVICE_NOT_FOUND"));
    const spec = { type: "path", path: at("none"), sizeBytes: 64 * MIB } as const;
    await assert.rejects(Device.open(spec, { writable: true, create: false }), code("DEVICE_NOT_FOUND"));
    assert.ok(!existsSync(at("none")));
    await assert.rejects(open("small", "1Mi"), code("DEVICE_TOO_SMALL"));
    mkdirSync(at("folder"));
    for (const writable of [true, false]) {
      await assert.rejects(openDevice(at("folder"), { writable }), code("DEVICE_MODE"));
    }
    await assert.rejects(openDevice("/dev/null", { writable: false }), /not a dax device/);
  });

  it("on a file system that is full says so, and not that memory is broken", {
    skip: skipWithoutMounts(),
  }, async () => {
    const small = at("small file system");
    mkdirSync(small);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=4m", "tmpfs", small]);
    try {
      await using device = await open(join("small file system", "device"), "64Mi");
      await using window = device.mapRegion(device.whole, { writable: true });
      assert.throws(
        () => {
          for (let offset = 0; offset < 8 * MIB; offset += 4096) window.copyIn(offset, Uint8Array.of(1));
        },
        {
          code: "MEMORY_ERROR",
          message: /the file system that holds the simulated device .* is full: make room in it/,
        },
      );
    } finally {
      execFileSync("umount", ["--lazy", small]);
    }
  });

  it("maps aligned ranges of itself only, and writes only when opened for that", async () => {
    await using device = await open("map", "64Mi");
    await using window = device.mapRegion({ offset: 2 * MIB, length: 4 * MIB }, { writable: true });
    window.copyInDurable(5, Uint8Array.of(1, 2, 3));
    assert.deepEqual([...(await device.read(2 * MIB + 4, 5))], [0, 1, 2, 3, 0]);
    assert.throws(() => window.read(4 * MIB - 1, 2), code("OUT_OF_RANGE"));
    assert.throws(() => window.read(0, 2 ** 52), code("OUT_OF_RANGE"));
    assert.throws(() => window.copyIn(-1, Uint8Array.of(1)), code("OUT_OF_RANGE"));
    for (const [offset, length] of [
      [1, 2 * MIB],
      [0, 3 * MIB],
      [62 * MIB, 4 * MIB],
      [-2 * MIB, 4 * MIB],
      [0, 0],
      [0, Number.NaN],
    ] as const) {
      assert.throws(() => device.mapRegion({ offset, length }, { writable: false }), code("OUT_OF_RANGE"));
    }
    await using readonly = await openDevice(at("map"), { writable: false });
    assert.throws(() => readonly.mapRegion(readonly.whole, { writable: true }), code("READ_ONLY"));
    await assert.rejects(readonly.zero(0, 2 * MIB), code("READ_ONLY"));
    await using view = readonly.mapRegion(readonly.whole, { writable: false });
    assert.throws(() => view.zero(0, 1), code("READ_ONLY"));
    await view[Symbol.asyncDispose]();
    assert.throws(() => view.read(0, 1), code("HANDLE_STALE"));
  });

  it("of 1 TiB costs nothing: labelled, formatted at its end, erased", async () => {
    const rss = process.memoryUsage.rss();
    await using device = await open("huge", "1Ti");
    assert.deepEqual(await device.inspect(), { type: "blank" });
    await initDevice(device, label("bbbbbbbb-0000-4000-8000-000000000001"));
    const region = { offset: TIB - 512 * GIB, length: 512 * GIB };
    await formatVolume(device, region, volume);
    await using media = await VolumeMedia.open(device, region, { writable: true });
    assert.equal(media.superblock.daxdevSize, 512 * GIB);
    media.window.copyIn(region.length - 3, Buffer.from("end"));
    assert.equal(Buffer.from(await device.read(TIB - 3, 3)).toString(), "end");
    let last = 0;
    await eraseRegion(device, region, volume, { onProgress: (done) => (last = done) });
    assert.equal(last, region.length);
    assert.deepEqual([...(await device.read(TIB - 3, 3))], [0, 0, 0]);
    assert.ok(statSync(at("huge")).blocks * 512 < 16 * MIB);
    assert.ok(process.memoryUsage.rss() - rss < 100 * MIB);
  });

  it("is zeroed in chunks that can be stopped, by signal or by a check", async () => {
    await using device = await open("zero", "2Gi");
    await using window = device.mapRegion(device.whole, { writable: true });
    for (let offset = 0; offset < 2 * GIB; offset += 64 * MIB) window.copyIn(offset, Uint8Array.of(7));
    const controller = new AbortController();
    const stopped = device.zero(0, 2 * GIB, { signal: controller.signal, onProgress: () => controller.abort() });
    await assert.rejects(stopped, code("CANCELLED"));
    assert.equal(window.read(0, 1)[0], 0);
    assert.equal(window.read(GIB, 1)[0], 7);
    let checks = 0;
    const given = device.zero(0, 2 * GIB, {
      check: () => {
        if (++checks === 3) throw new Error("given away");
      },
    });
    await assert.rejects(given, /given away/);
    assert.equal(window.read(GIB, 1)[0], 7);
    await device.zero(0, 2 * GIB, { window: { window, offset: 0 } });
    for (let offset = 0; offset < 2 * GIB; offset += 64 * MIB) assert.equal(window.read(offset, 1)[0], 0);
  });

  it("that is truncated under its mapping is a memory error", async () => {
    await using device = await open("cut", "64Mi");
    await using window = device.mapRegion(device.whole, { writable: true });
    truncateSync(device.path, 2 * MIB);
    assert.throws(() => window.read(4 * MIB, 1), code("MEMORY_ERROR"));
    await assert.rejects(device.read(4 * MIB, 1), code("MEMORY_ERROR"));
    assert.equal(window.read(0, 1)[0], 0);
  });
});

describe("what a device holds", () => {
  it("is judged before it is overwritten", async () => {
    await using device = await open("contents", "64Mi");
    assert.equal(showContents(await device.inspect()), "is blank");
    const uuid = "cccccccc-0000-4000-8000-000000000001";
    await initDevice(device, label(uuid));
    assert.equal((await readLabel(device))?.uuid, uuid);
    await assert.rejects(initDevice(device, label(uuid)), code("DEVICE_NOT_BLANK"));
    await initDevice(device, { ...label(uuid), incarnation: 2, force: true });
    assert.equal((await readLabel(device))?.incarnation, 2);

    await formatVolume(device, device.whole, volume);
    assert.equal(showContents(await device.inspect()), `holds the famfs volume ${volume.uuid}`);
    assert.equal(await readLabel(device), undefined);
    await formatVolume(device, device.whole, { ...volume, stock: true });
    assert.equal(showContents(await device.inspect()), `holds the famfs file system ${volume.uuid}`);
    await using media = await VolumeMedia.open(device, device.whole, { writable: false });
    assert.equal(media.record, undefined);

    await eraseRegion(device, device.whole, volume);
    assert.equal((await device.inspect()).type, "blank");
    await using window = device.mapRegion(device.whole, { writable: true });
    window.copyIn(device.sizeBytes - 1, Uint8Array.of(1));
    assert.match(showContents(await device.inspect()), /unknown data \(at its end\)/);
    window.copyIn(MIB, Uint8Array.of(1));
    assert.match(showContents(await device.inspect()), /not zero at 1048576/);
  });

  it("is not blank when only its start is, and volumes are behind that", async () => {
    await using device = await open("wiped", "64Mi");
    await initDevice(device, label("cccccccc-0000-4000-8000-000000000002"));
    await formatVolume(device, { offset: 8 * MIB, length: 32 * MIB }, { ...volume, createdSeconds: 10 });
    await device.zero(0, 2 * MIB);
    assert.equal((await device.inspect()).type, "blank");
    const fresh = label("cccccccc-0000-4000-8000-000000000003");
    await assert.rejects(initDevice(device, fresh), {
      code: "DEVICE_NOT_BLANK",
      message: /has lost its label and holds volume v at 8388608; only --force/,
    });
    await initDevice(device, { ...fresh, force: true });
    assert.deepEqual(await scanVolumes(device), []);
  });

  it("is recognised by the marks of other formats", () => {
    const marks: [number, string, RegExp][] = [
      [1080, "\x53\xef", /ext4/],
      [0, "XFSB", /XFS/],
      [65600, "_BHRfS_M", /Btrfs/],
      [512, "EFI PART", /GPT/],
      [510, "\x55\xaa", /MBR/],
      [0, "LUKS\xba\xbe", /LUKS/],
      [4086, "SWAPSPACE2", /swap/],
    ];
    for (const [offset, bytes, expected] of marks) {
      const head = new Uint8Array(HEAD_LENGTH);
      head.set(Buffer.from(bytes, "latin1"), offset);
      const contents = describeContents(head, new Uint8Array(4096));
      assert.ok(contents.type === "other" && expected.test(contents.description), bytes);
    }
  });

  it("may be a famfs of another version, or a damaged label", () => {
    const head = new Uint8Array(HEAD_LENGTH);
    new DataView(head.buffer).setBigUint64(0, 0x87b282ffn, true);
    new DataView(head.buffer).setBigUint64(8, 47n, true);
    const contents = describeContents(head, new Uint8Array(4096));
    assert.deepEqual(contents, { type: "famfs", version: 47n, uuid: undefined, extended: false });
    new DataView(head.buffer).setBigUint64(8, 0x6c6562616cn, true);
    assert.match(showContents(describeContents(head, new Uint8Array(4096))), /damaged device label/);
  });

  it("names it: a device is found by the UUID of its label, a copy is noticed", async () => {
    const uuid = "dddddddd-0000-4000-8000-000000000001";
    {
      await using device = await open("found", "64Mi");
      await initDevice(device, label(uuid));
      await using copy = await open("copy", "64Mi");
      await initDevice(copy, label(uuid));
    }
    writeFileSync(at("text"), "hello");
    const { devices, skipped } = await scanDevices([at("found"), at("text"), at("nothing")]);
    assert.deepEqual(
      devices.map(({ path }) => path),
      [at("found")],
    );
    assert.equal(skipped.length, 2);
    assert.equal(await findDevice(uuid, [at("found"), at("text")]), at("found"));
    await assert.rejects(findDevice(uuid, [at("found"), at("copy")]), /one is a copy/);
    await assert.rejects(findDevice(uuid, [at("text")]), code("DEVICE_NOT_FOUND"));
  });

  it("a label larger than its device is refused", async () => {
    await using device = await open("shrunk", "64Mi");
    await initDevice(device, label("eeeeeeee-0000-4000-8000-000000000001"));
    truncateSync(device.path, 32 * MIB);
    await using again = await openDevice(device.path, { writable: false });
    await assert.rejects(readLabel(again), /it was truncated/);
  });
});

describe("the lock of a device", () => {
  it("excludes others of this host, names them, and ends with a killed process", async () => {
    await using device = await open("lock", "64Mi");
    const script = `
      import { openDevice } from ${JSON.stringify(new URL("./index.ts", import.meta.url).href)};
      const device = await openDevice(${JSON.stringify(device.path)}, { writable: true });
      await device.lock();
      console.log("locked");
      setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const exited = once(child, "exit");
    try {
      await once(child.stdout, "data");
      await assert.rejects(device.lock(), (error: Error & { code?: string }) => {
        assert.equal(error.code, "DEVICE_IN_USE");
        return error.message.includes(`process ${child.pid} (`);
      });
    } finally {
      child.kill("SIGKILL");
      await exited;
    }
    {
      await using _lock = await device.lock();
      await assert.rejects(device.lock({ shared: true }), code("DEVICE_IN_USE"));
    }
    await using _one = await device.lock({ shared: true });
    await using _two = await device.lock({ shared: true });
    await assert.rejects(device.lock(), code("DEVICE_IN_USE"));
  });
});

describe("a lock file", () => {
  it("is made when it is missing, and is never a symlink", async () => {
    const target = { device: "/dev/dax9.9", file: at("dax-9-9.lock"), ours: true };
    {
      await using _lock = await lockDevice(target, { shared: false });
      await assert.rejects(lockDevice(target, { shared: false }), /dax9\.9 is in use by process/);
    }
    await using _again = await lockDevice(target, { shared: false });
    symlinkSync(at("elsewhere"), at("link.lock"));
    await assert.rejects(lockDevice({ ...target, file: at("link.lock") }, { shared: false }), code("SYSTEM"));
    assert.ok(!existsSync(at("elsewhere")));
  });

  it("of a simulated device is that of the file behind a symlink", async () => {
    await using device = await open("behind", "64Mi");
    symlinkSync(at("behind"), at("symlink"));
    await using other = await openDevice(at("symlink"), { writable: true });
    await using _lock = await device.lock();
    await assert.rejects(other.lock(), code("DEVICE_IN_USE"));
  });
});

describe("sysfs of a devdax device", () => {
  const sysfs = (name: string, driver: string | undefined, subsystem = "dax") => {
    const device = join(at(name), "dev/char/252:7");
    mkdirSync(device, { recursive: true });
    symlinkSync(`/sys/bus/${subsystem}`, join(device, "subsystem"));
    if (driver !== undefined) symlinkSync(`/sys/bus/dax/drivers/${driver}`, join(device, "driver"));
    writeFileSync(join(device, "size"), "8589934592\n");
    writeFileSync(join(device, "align"), "2097152\n");
    return at(name);
  };
  const rdev = 252 * 256 + 7;

  it("gives size and alignment", async () => {
    assert.deepEqual(deviceNumbers(rdev), { major: 252, minor: 7 });
    assert.deepEqual(deviceNumbers(0x1234_5678), { major: 0x456, minor: 0x12378 });
    const found = await readDaxAttributes("/dev/dax0.0", rdev, sysfs("good", "device_dax"));
    assert.deepEqual(found, { sizeBytes: 8 * GIB, alignBytes: 2 * MIB });
  });

  it("refuses system RAM, famfs mode and other devices", async () => {
    await assert.rejects(readDaxAttributes("/dev/dax0.0", rdev, sysfs("ram", "kmem")), /driver kmem/);
    await assert.rejects(readDaxAttributes("/dev/dax0.0", rdev, sysfs("none", undefined)), code("DEVICE_MODE"));
    await assert.rejects(readDaxAttributes("/dev/x", rdev, sysfs("tty", "tty", "tty")), /not a dax device/);
  });
});
