/** What famfs does not allow, each with its errno; and the neighbours that it does allow. */
import type { ToolCase } from "../tool-case.ts";

export const REFUSALS: readonly ToolCase[] = [
  {
    name: ">> on a sealed file",
    needs: [],
    bash: `
      cp $IN/small f; seal
      append() { echo more >> f; }
      refused append; [[ $ELSEWHERE ]] || same $IN/small f`,
    outcome: "EFBIG",
  },
  {
    name: "python append to a sealed file",
    needs: [],
    python: `
write("f", b"old"); seal()
def append():
    with open("f", "ab", buffering=0) as file: file.write(b"more")
outcome(append)`,
    outcome: "EFBIG",
  },
  {
    name: "a write over the end of a sealed file",
    needs: [],
    python: `
write("f", b"12345678"); seal()
f = os.open("f", os.O_RDWR); outcome(lambda: os.pwrite(f, b"abcd", 8)); os.pwrite(f, b"abcd", 4); os.close(f)
assert read("f")[:8] == b"1234abcd"`,
    outcome: "EFBIG",
    note: "up to the end it works",
  },
  {
    name: "truncate that grows a sealed file",
    needs: ["truncate"],
    bash: `cp $IN/small f; seal; refused truncate -s 1M f; [[ $ELSEWHERE ]] || same $IN/small f`,
    outcome: "EPERM",
  },
  {
    name: "truncate that shrinks a sealed file",
    needs: ["truncate"],
    bash: `cp $IN/small f; seal; refused truncate -s 3 f; [[ $ELSEWHERE ]] || same $IN/small f`,
    outcome: "EPERM",
  },
  {
    name: "truncate of a sealed file to its own size",
    needs: ["truncate"],
    bash: `cp $IN/small f; seal; truncate -s $(stat -c %s f) f; same $IN/small f`,
  },
  {
    name: "fallocate that grows a sealed file",
    needs: ["fallocate"],
    bash: `cp $IN/one f; seal; refused fallocate -l 3M f; [[ $ELSEWHERE ]] || same $IN/one f`,
    outcome: "EPERM",
  },
  {
    name: "fallocate inside a sealed file",
    needs: ["fallocate"],
    bash: `cp $IN/one f; seal; fallocate -l 1M f; same $IN/one f`,
    note: "all of it is allocated already",
  },
  {
    name: "sqlite that grows a sealed database",
    needs: ["sqlite3"],
    python: `
import sqlite3
def fill(n):
    with sqlite3.connect("db") as db: db.execute("insert into t values (randomblob(?))", (n,))
with sqlite3.connect("db") as db: db.execute("create table t (v)")
fill(100); seal()
try: fill(1 << 20); print("outcome: works")
except sqlite3.Error as error: print("outcome:", error.sqlite_errorname)
with sqlite3.connect("db") as db: assert db.execute("pragma integrity_check").fetchone() == ("ok",)`,
    outcome: "SQLITE_IOERR_WRITE",
    note: "write(2) says EFBIG; the database stays whole",
  },
  {
    name: "ln",
    needs: ["ln"],
    bash: `cp $IN/small f; seal; refused ln f g`,
    outcome: "EPERM",
  },
  {
    name: "mknod of a device",
    needs: ["mknod"],
    allUsers: true,
    bash: `refused mknod d c 1 3`,
    outcome: "EPERM",
  },
  {
    name: "mkfifo",
    needs: ["mkfifo"],
    bash: `refused mkfifo f`,
    outcome: "EPERM",
  },
  {
    name: "a Unix socket",
    needs: [],
    python: `
import socket
outcome(lambda: socket.socket(socket.AF_UNIX).bind("s"))`,
    outcome: "EPERM",
  },
  {
    name: "setfattr of a user attribute",
    needs: ["setfattr"],
    bash: `cp $IN/small f; refused setfattr -n user.colour -v red f`,
    outcome: "ENOTSUP",
    note: "but user.famfs.seal seals",
  },
];
