/** Every operation and errno of design 7 as a process on a real mount meets it. */
import { execFile } from "node:child_process";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { FuseServer } from "../../src/fuse/index.ts";
import { skipWithoutMounts } from "../support/kernel.ts";
import { MountedVolume } from "../support/mounted-volume.ts";
import { firstMissing, missingAllUsers } from "../support/prerequisites.ts";
import { type SimulatedVolume, simulatedVolume } from "../support/simulated-volume.ts";

const run = promisify(execFile);
const skip = skipWithoutMounts();

const PRELUDE = `
import ctypes, errno, fcntl, mmap, os, sys, time
os.chdir(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
def fails(code, call, *args):
    try: call(*args)
    except OSError as error:
        assert errno.errorcode[error.errno] == code, f"{errno.errorcode[error.errno]}, expected {code}"
        return
    raise AssertionError(f"no {code}")
def fallocate(fd, mode, offset, length):
    if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")
def renameat2(old, new, flags):
    if libc.renameat2(-100, old.encode(), -100, new.encode(), flags) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")
def put(name, data, mode="wb"):
    with open(name, mode) as f: f.write(data)
def get(name):
    with open(name, "rb") as f: return f.read()
def seal(path="."):
    fd = os.open(path, os.O_RDONLY); os.fsync(fd); os.close(fd)
def until(check):
    while not check(): time.sleep(0.01)
def sealed(name): return os.getxattr(name, "user.famfs.seal") == b"1"
`;

/** Nothing seals before it is asked for, however slow the machine is. */
const NEVER_BY_ITSELF = { sealDelayMs: 600_000 };

let fuse: FuseServer;
let volume: SimulatedVolume;
let mount: MountedVolume;

before(async () => {
  if (skip !== false) return;
  fuse = await FuseServer.open({ workers: 2 });
  volume = await simulatedVolume({ dataBytes: 512 * 2 ** 20 });
  mount = await MountedVolume.open(fuse, volume, { settings: NEVER_BY_ITSELF, readableXattrs: true });
});

after(async () => {
  if (skip !== false) return;
  await mount[Symbol.asyncDispose]();
  await volume[Symbol.asyncDispose]();
  await fuse[Symbol.asyncDispose]();
});

/** Runs `script` in a directory of its own on the mount. Never in this process: it serves the mount. */
async function python(script: string, at: MountedVolume = mount): Promise<string> {
  const lines = script.split("\n");
  const indent = /^ */.exec(lines.find((line) => line.trim() !== "") ?? "")?.[0].length ?? 0;
  const body = lines.map((line) => line.slice(indent)).join("\n");
  const { stdout } = await run("python3", ["-c", PRELUDE + body, at.path], { timeout: 30_000, killSignal: "SIGKILL" });
  return stdout.trim();
}

const CASES: Readonly<Record<string, string>> = {
  "a new file grows, shrinks, is sparse, is renamed and removed before it seals": `
    f = open("n1", "w+b", buffering=0)
    f.write(b"abc"); f.seek(5_000_000); f.write(b"end")
    assert os.stat("n1").st_size == 5_000_003
    f.truncate(2); assert f.seek(0) == 0 and f.read() == b"ab"
    f.truncate(4); f.seek(0); assert f.read() == b"ab\\0\\0"
    os.rename("n1", "n2"); assert get("n2") == b"ab\\0\\0"
    os.unlink("n2"); assert not os.path.exists("n2")
    f.seek(0); f.write(b"still"); f.seek(0); assert f.read()[:5] == b"still"`,
  "a sealed file: new size EPERM, write past the end EFBIG, in place ordinary": `
    put("e1", b"0123456789"); seal(); assert sealed("e1")
    fails("EPERM", os.truncate, "e1", 5); fails("EPERM", os.truncate, "e1", 0); fails("EPERM", os.truncate, "e1", 11)
    os.truncate("e1", 10)
    fd = os.open("e1", os.O_RDWR)
    os.pwrite(fd, b"AB", 3); assert get("e1") == b"012AB56789"
    fails("EFBIG", os.pwrite, fd, b"x", 10)
    fails("EPERM", fallocate, fd, 0, 0, 11)
    a = os.open("e1", os.O_WRONLY | os.O_APPEND); fails("EFBIG", os.write, a, b"more")
    m = mmap.mmap(fd, 10); m[0:2] = b"ZZ"; m.flush(); assert get("e1")[:2] == b"ZZ"`,
  "a write across the end has one answer, a short count": `
    size = 5 << 19; put("w1", b"x" * size); seal()
    fd = os.open("w1", os.O_RDWR); direct = os.open("w1", os.O_RDWR | os.O_DIRECT)
    for length in 4096, 1 << 20, 4 << 20:
        data = mmap.mmap(-1, length); data.write(b"y" * length); at = size - min(length // 2, 1 << 21)
        # Of a direct write, whole requests are written or refused.
        if length > 1 << 20: assert 0 <= os.pwrite(direct, data, at) <= size - at
        else: fails("EFBIG", os.pwrite, direct, data, at)
        os.pwrite(fd, b"x" * (size - at), at)
        assert os.pwrite(fd, data, at) == size - at, length
        fails("EFBIG", os.pwrite, fd, data, size)
        assert get("w1")[at:] == b"y" * (size - at)`,
  "O_TRUNC makes a new file that replaces the old one": `
    put("t1", b"old content"); seal()
    put("t1", b"new"); assert get("t1") == b"new" and not sealed("t1")
    seal(); assert sealed("t1") and get("t1") == b"new"`,
  "os.replace over a sealed file is atomic and keeps no trace": `
    put("r1", b"old"); seal()
    put("r1.tmp", b"newer"); os.replace("r1.tmp", "r1"); seal()
    assert get("r1") == b"newer" and not os.path.exists("r1.tmp")`,
  "an empty file can be filled later": `
    put("empty", b""); seal(); assert sealed("empty")
    put("empty", b"now", "ab"); assert get("empty") == b"now"`,
  "hard links and device nodes EPERM, other xattrs ENOTSUP, none listed": `
    put("h1", b"x")
    fails("EPERM", os.link, "h1", "h2"); fails("EPERM", os.mkfifo, "fifo"); fails("EPERM", os.mknod, "dev", 0o020600, 0)
    fails("ENOTSUP", os.setxattr, "h1", "user.x", b"1"); fails("ENOTSUP", os.getxattr, "h1", "user.x")
    assert os.listxattr("h1") == []`,
  "the xattr user.famfs.seal seals at once": `
    fd = os.open("x1", os.O_CREAT | os.O_WRONLY); os.write(fd, b"abc")
    os.setxattr("x1", "user.famfs.seal", b"1"); assert sealed("x1")
    fails("EFBIG", os.write, fd, b"d"); os.pwrite(fd, b"A", 0); assert get("x1") == b"Abc"`,
  "fallocate: plain declares, KEEP_SIZE reserves, PUNCH_HOLE and ZERO_RANGE zero, others EOPNOTSUPP": `
    fd = os.open("fa", os.O_CREAT | os.O_RDWR)
    fallocate(fd, 1, 0, 8 << 20); assert os.fstat(fd).st_size == 0
    fallocate(fd, 0, 0, 100); assert os.fstat(fd).st_size == 100
    os.pwrite(fd, b"x" * 100, 0); fallocate(fd, 3, 10, 20)
    assert os.pread(fd, 100, 0) == b"x" * 10 + b"\\0" * 20 + b"x" * 70
    fallocate(fd, 0x10, 90, 20); assert os.fstat(fd).st_size == 110 and os.pread(fd, 30, 80) == b"x" * 10 + b"\\0" * 20
    fails("ENOTSUP", fallocate, fd, 8, 0, 4096)`,
  "positions that no file can have: EFBIG to make it so long, the end for reads, ENXIO to seek data there": `
    fd = os.open("far", os.O_CREAT | os.O_RDWR); os.write(fd, b"x")
    for at in 1 << 53, 1 << 62:
        for mode in 0, 1, 16: fails("EFBIG", fallocate, fd, mode, at, 4096); fails("EFBIG", fallocate, fd, mode, 0, at)
        fails("EFBIG", os.ftruncate, fd, at); fails("EFBIG", os.truncate, "far", at)
        fails("EFBIG", os.pwrite, fd, b"x", at)
        assert os.pread(fd, 1, at) == b""
        fails("ENXIO", os.lseek, fd, at, os.SEEK_DATA); fails("ENXIO", os.lseek, fd, at, os.SEEK_HOLE)
    fails("ENXIO", os.lseek, fd, -1, os.SEEK_DATA); fails("ENXIO", os.lseek, fd, -1, os.SEEK_HOLE)
    seal(); os.close(fd); assert get("far") == b"x"`,
  "SEEK_DATA and SEEK_HOLE see data up to the end": `
    fd = os.open("sk", os.O_CREAT | os.O_RDWR); os.write(fd, b"x" * 100)
    assert os.lseek(fd, 10, os.SEEK_DATA) == 10 and os.lseek(fd, 10, os.SEEK_HOLE) == 100
    fails("ENXIO", os.lseek, fd, 100, os.SEEK_DATA)`,
  "directories: made, moved with what is in them, emptied, removed": `
    os.makedirs("d/a/b"); put("d/a/b/f", b"1"); seal("d/a/b")
    fails("ENOTEMPTY", os.rmdir, "d/a"); fails("ENOTDIR", os.rmdir, "d/a/b/f"); fails("EISDIR", os.unlink, "d/a")
    os.makedirs("d/z"); os.rename("d/a", "d/z/a"); assert get("d/z/a/b/f") == b"1"
    fails("EINVAL", os.rename, "d/z", "d/z/a/x")
    put("d/z/a/b/new", b"2"); os.rename("d/z/a/b/f", "d/f"); assert sorted(os.listdir("d/z/a/b")) == ["new"]
    os.unlink("d/z/a/b/new"); os.rmdir("d/z/a/b"); os.rmdir("d/z/a"); assert os.listdir("d/z") == []
    assert os.stat("d").st_nlink == 3`,
  "rename flags: NOREPLACE, EXCHANGE, and EINVAL for WHITEOUT": `
    put("ra", b"a"); put("rb", b"b"); seal()
    fails("EEXIST", renameat2, "ra", "rb", 1); renameat2("ra", "rb", 2)
    assert get("ra") == b"b" and get("rb") == b"a"
    put("rc", b"c"); renameat2("ra", "rc", 2); assert get("ra") == b"c" and get("rc") == b"b"
    fails("EINVAL", renameat2, "ra", "rw", 4); fails("ENOENT", renameat2, "ra", "none", 2)`,
  "names of 255 bytes and deep paths; 256 bytes ENAMETOOLONG": `
    put("n" * 255, b"long"); path = "p" * 200 + "/" + "q" * 200 + "/" + "r" * 200
    os.makedirs(path); put(path + "/f", b"deep"); seal(path); assert get(path + "/f") == b"deep" and get("n" * 255) == b"long"
    fails("ENAMETOOLONG", put, "n" * 256, b"")`,
  "symlinks keep their target": `
    os.symlink("t" * 1000 if False else "target/with/parts", "sl"); assert os.readlink("sl") == "target/with/parts"
    put("st", b"x"); os.symlink("st", "sl2"); assert get("sl2") == b"x"; os.unlink("sl2"); assert get("st") == b"x"`,
  "modes, owners and times before and after sealing": `
    put("at", b"x"); os.chmod("at", 0o640); os.chown("at", 7, 8); os.utime("at", ns=(5, 1_234_567_890_123_456_789))
    seal(); s = os.stat("at")
    assert (s.st_mode & 0o7777, s.st_uid, s.st_gid, s.st_mtime_ns) == (0o640, 7, 8, 1_234_567_890_123_456_789)
    os.chmod("at", 0o400); os.utime("at", ns=(5, 77)); s = os.stat("at")
    assert (s.st_mode & 0o7777, s.st_mtime_ns) == (0o400, 77)
    os.chmod("at", 0o600); fd = os.open("at", os.O_WRONLY); os.pwrite(fd, b"y", 0); os.close(fd)
    assert time.time() - os.stat("at").st_mtime < 5`,
  "set-id bits go with every change of bytes by another user, also where only the mode is asked for": `
    def mode():
        answer = ctypes.create_string_buffer(256)
        assert libc.statx(-100, b"program", 0, 2, answer) == 0 # STATX_MODE: from the kernel's cache
        return int.from_bytes(answer.raw[28:30], "little") & 0o7777
    def as_other(change):
        os.chown("program", 1000, 1000); os.chmod("program", 0o6777); assert mode() == 0o6777
        pid = os.fork()
        if pid == 0:
            os.setgroups([]); os.setgid(1001); os.setuid(1001); change(); os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        return mode()
    put("program", b"x" * 8192); put("other", b"y" * 4096)
    def opened(flags=0): return os.open("program", os.O_RDWR | flags)
    for step in range(2):
        for change in (
            lambda: os.write(opened(), b"z"), lambda: os.write(opened(os.O_DIRECT), mmap.mmap(-1, 4096)),
            lambda: os.copy_file_range(os.open("other", os.O_RDONLY), opened(), 4096),
            lambda: fallocate(opened(), 0, 0, 10), lambda: fallocate(opened(), 3, 0, 10), lambda: fallocate(opened(), 16, 0, 10),
        ): assert as_other(change) == 0o777
        while not sealed("program"): seal()
    assert as_other(lambda: opened(os.O_TRUNC)) == 0o777
    assert as_other(lambda: os.write(opened(os.O_APPEND), b"z")) == 0o777
    assert as_other(lambda: os.truncate("program", 0)) == 0o777
    os.chmod("program", 0o6777); fallocate(opened(), 0, 0, 10); assert mode() == 0o6777 # by root`,
  "O_DIRECT and large requests": `
    fd = os.open("od", os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    m = mmap.mmap(-1, 4 << 20); m.write(os.urandom(4 << 20)); assert os.pwritev(fd, [m], 0) == 4 << 20
    back = mmap.mmap(-1, 4 << 20); assert os.preadv(fd, [back], 0) == 4 << 20 and back[:] == m[:]`,
};

for (const [name, script] of Object.entries(CASES)) {
  const givesAway = /os.(chown|setuid)/.test(script);
  test(name, { skip: firstMissing(skip, givesAway && missingAllUsers()), timeout: 40_000 }, async () => {
    await python(script);
  });
}

/** On a mount where files seal by themselves in the time of a test. */
const SEALING: Readonly<Record<string, string>> = {
  "it seals a while after the last close, not at a flush of a copy of the descriptor": `
    fd = os.open("s1", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"one")
    if os.fork() == 0: os.close(fd); os._exit(0)
    os.wait(); time.sleep(0.8)
    assert not sealed("s1")
    os.write(fd, b"two"); os.close(fd); until(lambda: sealed("s1"))
    assert get("s1") == b"onetwo"`,
  "mmap keeps it open until munmap": `
    fd = os.open("m1", os.O_CREAT | os.O_RDWR); os.write(fd, b"x" * 8192)
    m = mmap.mmap(fd, 8192); os.close(fd); time.sleep(0.8)
    assert not sealed("m1")
    m[4096:4100] = b"abcd"; m.flush(); m.close(); until(lambda: sealed("m1"))
    assert get("m1")[4096:4100] == b"abcd"`,
  "a declared file seals while it is open": `
    fd = os.open("d1", os.O_CREAT | os.O_RDWR); os.ftruncate(fd, 3 << 20)
    m = mmap.mmap(fd, 3 << 20); m[0:4] = b"head"; until(lambda: sealed("d1"))
    m[100:104] = b"late"; m.flush(); assert get("d1")[100:104] == b"late"
    fails("EPERM", os.ftruncate, fd, 4 << 20)`,
};

/** Each on a volume of its own: what others give back would be counted. */
const COUNTING: Readonly<Record<string, string>> = {
  "chown -R, chmod -R and touch -a of what is right already cost no entry of the log": `
    def shell(command): assert os.system(command) == 0, command
    for at in range(20): put(f"f{at}", b"x")
    os.mkdir("sub"); os.symlink("f1", "link"); seal(); free = os.statvfs(".").f_ffree
    shell(f"chown -R {os.getuid()}:{os.getgid()} . && chmod -R u+rwX . && touch -a f* sub && touch -m -r f1 f1")
    assert os.statvfs(".").f_ffree == free, (free, os.statvfs(".").f_ffree)
    shell("chmod -R g+w f1 && touch -m f2"); assert os.statvfs(".").f_ffree == free - 2`,
  "statfs counts bytes and slots": `
    a = os.statvfs("."); put("sv", b"x" * (5 << 20)); b = os.statvfs(".")
    assert a.f_bavail * a.f_bsize - b.f_bavail * b.f_bsize >= 6 << 20
    os.unlink("sv"); until(lambda: os.statvfs(".").f_bavail == a.f_bavail)
    fails("ENOSPC", fallocate, os.open("big", os.O_CREAT | os.O_RDWR), 0, 0, 1 << 40); os.unlink("big")`,
};

for (const [cases, settings] of [
  [SEALING, { sealDelayMs: 300 }],
  [COUNTING, NEVER_BY_ITSELF],
] as const) {
  for (const [name, script] of Object.entries(cases)) {
    test(name, { skip, timeout: 40_000 }, async () => {
      await using own = await simulatedVolume();
      await using there = await MountedVolume.open(fuse, own, { settings, readableXattrs: true });
      await python(script, there);
    });
  }
}

test("a second mount of the same memory sees new files, and their going", {
  skip,
  timeout: 40_000,
}, async () => {
  await using reader = await MountedVolume.open(fuse, volume, { nodeId: "node-b", settings: { readOnly: true } });
  const script = `
    other = sys.argv[1]
    ours = ${JSON.stringify(mount.path)}
    assert not os.path.exists("seen")  # a missing name that the kernel remembers
    put(ours + "/seen", b"data"); seal(ours)
    until(lambda: os.path.exists("seen")); assert get("seen") == b"data"
    fails("EROFS", put, "seen", b"x"); fails("EROFS", os.mkdir, "no")
    put(ours + "/seen.new", b"other"); os.replace(ours + "/seen.new", ours + "/seen"); seal(ours)
    until(lambda: get("seen") == b"other")
    os.mkdir(ours + "/sd"); put(ours + "/sd/f", b"1"); seal(ours + "/sd")
    until(lambda: "sd" in os.listdir(".") and os.listdir("sd") == ["f"])
    os.chmod(ours + "/seen", 0o600); until(lambda: os.stat("seen").st_mode & 0o777 == 0o600)
    fd = os.open(ours + "/seen", os.O_WRONLY); os.pwrite(fd, b"OTHER", 0); os.close(fd)
    until(lambda: get("seen") == b"OTHER")
    os.unlink(ours + "/seen"); until(lambda: not os.path.exists("seen"))`;
  await python(script, reader);
});

test("thousands of files are listed whole while others come and go", { skip, timeout: 60_000 }, async () => {
  await python(`
    os.mkdir("many")
    for i in range(3000): os.close(os.open(f"many/{i}", os.O_CREAT | os.O_WRONLY)) if i < 150 else os.mkdir(f"many/{i}")
    seen = set()
    for n, entry in enumerate(os.scandir("many")):
        assert entry.name not in seen; seen.add(entry.name)
        if n % 10 == 0: os.mkdir(f"many/x{n}")
    assert {str(i) for i in range(3000)} <= seen`);
});
