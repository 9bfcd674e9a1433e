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
f = os.open("f", os.O_RDWR); outcome(lambda: os.pwrite(f, b"abcd", 8)); os.pwrite(f, b"abcdefgh", 4); os.close(f)
assert read("f")[:8] == b"1234abcd"`,
    outcome: "EFBIG",
    note: "what fits is written, as on a full disk; the next write fails",
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
import contextlib, sqlite3
def run(statement, *arguments):
    with contextlib.closing(sqlite3.connect("db")) as db, db: return db.execute(statement, arguments).fetchone()
run("create table t (v)"); run("insert into t values (randomblob(100))"); seal()
try: run("insert into t values (randomblob(1 << 20))"); print("outcome: works")
except sqlite3.Error as error: print("outcome:", error.sqlite_errorname)
assert run("pragma integrity_check") == ("ok",)`,
    outcome: "SQLITE_IOERR_WRITE",
    note: "write(2) says EFBIG; the database stays whole",
  },
  {
    name: "git commit in a sealed repository",
    needs: ["git"],
    bash: `
      git config --global user.name T; git config --global user.email t@example.org
      git init -q -b main r; cd r; echo 1 > f; git add f; git commit -qm one; seal
      echo 2 > f; git add f; seal
      refused git commit -qm two; [[ $ELSEWHERE ]] || equal "$(git log --format=%s)" one; git fsck --strict`,
    outcome: "EFBIG",
    note: "git appends to .git/logs; core.logAllRefUpdates=false helps",
  },
  {
    name: "sort -o onto its input",
    needs: ["sort"],
    bash: `cp $IN/text f; seal; refused sort -r -o f f; [[ $ELSEWHERE ]] || same $IN/text f`,
    outcome: "EPERM",
    note: "it truncates the file that it has open; sort f > g; mv g f works",
  },
  {
    name: "ln -s to a name of 500 bytes",
    needs: ["ln"],
    bash: `refused ln -s $(printf 'x%.0s' {1..500}) l`,
    outcome: "ENAMETOOLONG",
    note: "464 bytes is the limit",
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
