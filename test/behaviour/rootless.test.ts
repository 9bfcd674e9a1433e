/** An ordinary user mounts by fusermount, which passes the descriptor to us. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { firstMissing, missingAllUsers, missingCommand } from "../support/prerequisites.ts";

const skip = firstMissing(missingAllUsers(), missingCommand("fusermount3"), missingCommand("setpriv"));
const root = fileURLToPath(new URL("../..", import.meta.url));
/** A user that Debian knows by name, as fusermount wants. */
const NOBODY = "65534";

/**
 * Runs a shell script as that user, to whom /dev/fuse is open as on most distributions and the checkout is there,
 * whatever this machine has: in a mount namespace where they are.
 */
function asNobody(directory: string, script: string) {
  const checkout = join(directory, "checkout");
  mkdirSync(checkout, { recursive: true });
  const open =
    'rm -f "$DIR/fuse" && mknod "$DIR/fuse" c 10 229 && chmod 666 "$DIR/fuse" && mount --bind "$DIR/fuse" /dev/fuse && mount --bind "$ROOT" "$DIR/checkout"';
  const drop = `exec setpriv --reuid ${NOBODY} --regid ${NOBODY} --clear-groups sh -c "$SCRIPT"`;
  return spawnSync("unshare", ["-m", "--propagation", "private", "sh", "-c", `${open} && ${drop}`], {
    env: {
      PATH: process.env["PATH"],
      DIR: directory,
      ROOT: root,
      NODE: join(checkout, relative(root, process.execPath)),
      MAIN: join(checkout, "src/cli/main.ts"),
      SCRIPT: script,
    },
    cwd: directory,
    encoding: "utf8",
    timeout: 60_000,
  });
}

/** Serves DEVICE at mnt, runs `body` there, and unmounts as Ctrl-C does. */
const mounted = (body: string) => `
  "$NODE" --disable-warning=ExperimentalWarning "$MAIN" mount "file://$DIR/device?size=64Mi" "$DIR/mnt" & server=$!
  for i in $(seq 300); do mountpoint -q mnt && break; sleep 0.1; done
  (set -e; ${body}); result=$?
  kill -INT $server; wait $server || result=$?
  mountpoint -q mnt && result=99
  exit $result`;

test("an ordinary user's mount is made by fusermount, with his files and gone afterwards", { skip }, () => {
  const directory = mkdtempSync(join(tmpdir(), "rootless-"));
  try {
    chmodSync(directory, 0o777);
    const ran = asNobody(
      directory,
      `mkdir mnt; ${mounted("grep -q 'mnt fuse.famfs-csi rw,nosuid,nodev.*default_permissions' /proc/mounts; echo hello > mnt/a; stat -c %u mnt/a")}`,
    );
    assert.equal(ran.status, 0, ran.stderr);
    assert.match(ran.stdout, new RegExp(`^${NOBODY}$`, "m"));
    const again = asNobody(directory, `${mounted("cat mnt/a")}`);
    assert.equal(again.status, 0, again.stderr);
    assert.match(again.stdout, /^hello$/m);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("what fusermount refuses is told with the way out", { skip }, () => {
  const directory = mkdtempSync(join(tmpdir(), "rootless-"));
  try {
    chmodSync(directory, 0o777);
    mkdirSync(join(directory, "mnt"), 0o755); // root's: nobody may not mount there
    const { status, stderr } = asNobody(
      directory,
      `"$NODE" --disable-warning=ExperimentalWarning "$MAIN" mount "file://$DIR/device?size=64Mi" "$DIR/mnt"`,
    );
    assert.equal(status, 69);
    assert.match(stderr, /user has no write access to mountpoint.*run the same with sudo/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
