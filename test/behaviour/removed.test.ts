/** Names that are removed or replaced while programs hold what they named: as on tmpfs, in the same run. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { test } from "node:test";
import { promisify } from "node:util";
import { skipWithoutMounts } from "../support/kernel.ts";
import { behaviourVolume } from "../support/mounted-volume.ts";

const run = promisify(execFile);
const skip = skipWithoutMounts();

async function python(program: string, path: string): Promise<string> {
  const { stdout } = await run("python3", ["-c", program, path], { timeout: 60_000 });
  return stdout;
}

/** Every way to hold something without a name, and what can be done with it then. */
const HELD = `
import errno, os, stat, sys, time
base = sys.argv[1]
def outcome(call, *args, **more):
    try:
        return call(*args, **more)
    except OSError as error:
        return errno.errorcode[error.errno]
def show(what, value):
    print(what, value)
def links(fd):
    got = outcome(os.fstat, fd)
    return got if isinstance(got, str) else (got.st_nlink, stat.filemode(got.st_mode), got.st_size if stat.S_ISREG(got.st_mode) else 0)
for wait in (0, 1.6):  # not in the log yet, and in it
    os.chdir(base)
    for name in ("f", "g"):
        with open(name, "w") as file: file.write("data of " + name)
    os.mkdir("d"); os.mkdir("w"); os.symlink("target", "l")
    time.sleep(wait)
    path = {name: os.open(name, os.O_PATH | os.O_NOFOLLOW) for name in ("f", "g", "d", "l")}
    opened = os.open("d", os.O_RDONLY)
    listing = os.scandir("d")
    os.chdir("w")
    os.unlink("../f"); os.rmdir("../d"); os.rmdir("../w"); os.unlink("../l")
    with open("%s/new" % base, "w") as file: file.write("new")
    os.rename("%s/new" % base, "%s/g" % base)
    for name, fd in path.items(): show(name, links(fd))
    for name in ("f", "g"):
        link = "/proc/self/fd/%d" % path[name]
        show(name + " chmod", outcome(os.chmod, link, 0o600))
        show(name + " mode", links(path[name]))
        for flags in (os.O_RDONLY, os.O_RDWR):
            fd = os.open(link, flags)
            show(name + " read", os.read(fd, 100))
            os.close(fd)
    fd = os.open("/proc/self/fd/%d" % path["f"], os.O_WRONLY)
    show("f write", outcome(os.pwrite, fd, b"DATA", 0))
    os.close(fd)
    show("l target", outcome(os.readlink, "", dir_fd=path["l"]))
    show("d open", links(opened))
    show("d list", outcome(os.listdir, opened))
    show("d listing", [entry.name for entry in listing])
    show("d fsync", outcome(os.fsync, opened))
    show("d fchmod", outcome(os.fchmod, opened, 0o711))
    show("d mode", links(opened))
    show("d create", outcome(os.open, "x", os.O_CREAT | os.O_WRONLY, dir_fd=opened))
    show("d mkdir", outcome(os.mkdir, "x", dir_fd=opened))
    show("d stat", outcome(os.stat, "x", dir_fd=opened))
    show("cwd list", outcome(os.listdir, "."))
    show("cwd stat", outcome(lambda: os.stat(".").st_nlink))
    show("cwd create", outcome(os.open, "x", os.O_CREAT | os.O_WRONLY))
    show("cwd mkdir", outcome(os.mkdir, "x"))
    show("cwd rename", outcome(os.rename, "%s/g" % base, "x"))
    # A directory, then a file, that is replaced by another while it is open.
    os.chdir(base)
    os.mkdir("old"); os.mkdir("young")
    time.sleep(wait)
    fd = os.open("old", os.O_RDONLY)
    os.rename("young", "old")
    show("replaced directory", links(fd))
    os.close(fd)
    for name in ("old-file", "young-file"):
        with open(name, "w") as file: file.write(name)
    time.sleep(wait)
    fd = os.open("old-file", os.O_RDONLY)
    os.rename("young-file", "old-file")
    show("replaced file", links(fd)); show("replaced file", os.read(fd, 100))
    for name in os.listdir(base): (os.rmdir if os.path.isdir(name) else os.unlink)(name)
    for each in [*path.values(), opened, fd]: os.close(each)
`;

test("what is held without a name is as on tmpfs", { skip, timeout: 60_000 }, async () => {
  await using device = await behaviourVolume();
  await using volume = await device.mount();
  const there = mkdtempSync("/dev/shm/famfs-removed-");
  try {
    assert.equal(await python(HELD, volume.path), await python(HELD, there));
  } finally {
    rmSync(there, { recursive: true });
  }
});

/** Three programs replace one name, and as long as they do three others open and stat it. */
const RACE = `
import mmap, os, sys
base = sys.argv[1]
done = mmap.mmap(-1, 1)
open(base + "/f", "w").close()
def replace(which):
    for _ in range(100):
        with open("%s/new-%d" % (base, which), "w") as file: file.write("x")
        os.rename("%s/new-%d" % (base, which), base + "/f")
def read(which):
    while not done[0]:
        fd = os.open(base + "/f", os.O_RDONLY if which else os.O_RDWR); os.fstat(fd); os.close(fd)
        os.stat(base + "/f")
def start(work, which):
    pid = os.fork()
    if pid != 0: return pid
    try:
        work(which)
        os._exit(0)
    except OSError as error:
        print(work.__name__, error, file=sys.stderr)
        os._exit(1)
def ends(pids): return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
readers = [start(read, which) for which in range(3)]
writers = [start(replace, which) for which in range(3)]
results = ends(writers)
done[0] = 1
print(results, ends(readers))
`;

test("a name that is being replaced can be opened and looked at all the time", { skip, timeout: 60_000 }, async () => {
  await using device = await behaviourVolume();
  await using volume = await device.mount();
  assert.equal(await python(RACE, volume.path), "[0, 0, 0] [0, 0, 0]\n");
});

test("space of a removed file is there for the next one, when only that makes it fit", {
  skip,
  timeout: 60_000,
}, async () => {
  await using device = await behaviourVolume({ dataBytes: 32 * 2 ** 20 });
  await using volume = await device.mount();
  const program = `
import os, sys
for count in range(50):
    path = sys.argv[1] + "/f%d" % count
    with open(path, "wb") as file: file.write(bytes(24 << 20))
    os.unlink(path)
`;
  await python(program, volume.path);
});
