/** What a tree is: one line per name with all that must survive a remount. */
import { createHash } from "node:crypto";
import { constants, lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";

const { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } = constants;

function kindOf(mode: number): "directory" | "file" | "symlink" | "other" {
  switch (mode & S_IFMT) {
    case S_IFDIR:
      return "directory";
    case S_IFREG:
      return "file";
    case S_IFLNK:
      return "symlink";
    default:
      return "other";
  }
}

/** Names as bytes (latin1), so that any survives; times to the nanosecond. Sorted. */
export function manifest(root: string): string[] {
  const lines: string[] = [];
  const visit = (path: Buffer, name: string) => {
    const { mode, uid, gid, size, mtimeNs, nlink } = lstatSync(path, { bigint: true });
    const kind = kindOf(Number(mode));
    const about = `${kind} ${(Number(mode) & 0o7777).toString(8)} ${uid}:${gid} ${mtimeNs}`;
    if (kind === "directory") {
      lines.push(`${name} ${about}`);
      for (const entry of readdirSync(path, { encoding: "buffer" })) {
        visit(Buffer.concat([path, Buffer.from("/"), entry]), `${name}/${entry.toString("latin1")}`);
      }
    } else if (kind === "symlink") {
      lines.push(`${name} ${about} -> ${readlinkSync(path, "buffer").toString("latin1")}`);
    } else if (kind === "file") {
      const hash = createHash("sha256").update(readFileSync(path)).digest("hex").slice(0, 16);
      lines.push(`${name} ${about} links ${nlink} ${size} bytes ${hash}`);
    } else {
      lines.push(`${name} ${about}`);
    }
  };
  visit(Buffer.from(root), ".");
  return lines.sort();
}
