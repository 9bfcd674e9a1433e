/**
 * Run inside a guest: one CSI call, its answer as JSON. Numbers of 64 bits are decimal strings in both.
 *
 *   csi-call SOCKET identity|controller|node METHOD REQUEST
 */
import { CsiClient } from "../../../src/csi/index.ts";

const [socket = "", service = "", method = "", request = "{}"] = process.argv.slice(2);
using client = CsiClient.open(`unix://${socket}`);
// The program passes on what its caller wrote; the server judges it.
const call = client.call.bind(client) as (service: string, method: string, request: unknown) => Promise<unknown>;
const answer = await call(service, method, JSON.parse(request));
console.log(JSON.stringify(answer, (_, value) => (typeof value === "bigint" ? String(value) : value)));
