import { writeFile } from "node:fs/promises";
import type { Logger } from "../base/index.ts";
import { messageOf } from "../base/index.ts";

/** As much as one request brings: the kernel's own 128 KiB make eight of it. */
const READ_AHEAD_KIB = 1024;

/**
 * Has the kernel read ahead by whole requests on a mount that is served. After INIT, which lowers what is set before.
 * Where it may not be set (without root, or with /sys mounted read-only) reading is slower and nothing else.
 */
export async function setReadAhead({ device }: { readonly device: string }, logger: Logger): Promise<void> {
  const path = `/sys/class/bdi/${device}/read_ahead_kb`;
  try {
    await writeFile(path, String(READ_AHEAD_KIB), { flag: "r+" });
  } catch (error) {
    logger.debug({ path, reason: messageOf(error) }, "read-ahead stays as the kernel has it");
  }
}
