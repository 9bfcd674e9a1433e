import type { ApiServer } from "../api-server.ts";

/** All volumes and devices, as somebody does who means well: the finalizers in the way are taken off. */
export async function loseAllRecords(server: ApiServer): Promise<void> {
  for (const kind of ["famfsvolumes", "famfsdevices"]) {
    const names = (await server.kubectl(["get", kind, "-o", "name"])).split("\n").filter((name) => name !== "");
    if (names.length === 0) continue;
    await server.kubectl(["delete", kind, "--all", "--wait=false"]);
    await server.kubectl(["patch", ...names, "--type=merge", "-p", '{"metadata":{"finalizers":null}}']);
    await server.kubectl(["wait", "--for=delete", ...names, "--timeout=30s"]);
  }
}
