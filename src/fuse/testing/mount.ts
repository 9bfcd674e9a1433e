/** Real mounts for tests of the session. */
import { closeSync, mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fuseMountArguments, native, UMOUNT } from "../../../native/index.ts";
import type { Operations } from "../operations.ts";
import type { FuseServer } from "../server.ts";
import type { Session, SessionOptions } from "../session.ts";

/** A mount of `operations` at a temporary directory, unmounted at the end of the scope. */
export class TestMount implements AsyncDisposable {
  readonly path: string;
  readonly session: Session;

  private constructor(path: string, session: Session) {
    this.path = path;
    this.session = session;
  }

  static async open(
    server: FuseServer,
    operations: Operations,
    options: SessionOptions = {},
    onDescriptor?: (fd: number) => void,
  ): Promise<TestMount> {
    const path = mkdtempSync(join(tmpdir(), "famfs-mount-"));
    const fd = native.openFuse();
    try {
      await native.mount(...fuseMountArguments(fd, path, { fsname: "famfs-test" }));
    } catch (error) {
      closeSync(fd);
      rmdirSync(path);
      throw error;
    }
    onDescriptor?.(fd);
    try {
      return new TestMount(path, await server.attach({ fd, operations, options }));
    } catch (error) {
      await native.unmount(path, UMOUNT.DETACH);
      rmdirSync(path);
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await native.unmount(this.path, UMOUNT.DETACH).catch(() => {}); // a test may have done it
    this.session.detach();
    rmdirSync(this.path);
  }
}
