import { FamfsError } from "../base/index.ts";
import type { StageRecord } from "./stage-records.ts";

/** The label is the mount's: the kernel gives it no second one, and a bind shows that of its mount. PATH_CONFLICT. */
export function assertSameLabel({ volumeId, seLinuxContext }: StageRecord, asked: string | undefined): void {
  if (asked === seLinuxContext) return;
  const words = (label: string | undefined) => (label === undefined ? "no SELinux label" : `SELinux label ${label}`);
  throw new FamfsError(
    "PATH_CONFLICT",
    `volume ${volumeId} is staged with ${words(seLinuxContext)}, not with ${words(asked)}: unstage it first`,
  );
}
