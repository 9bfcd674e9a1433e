import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { simulatedVolume, taker } from "../../test/support/simulated-volume.ts";
import { MIB } from "../base/index.ts";
import { MAX_TRANSACTION } from "../format/index.ts";

const ROUNDS = 8;

/** Appends transactions of 1 to 8 directories, named by transaction and position, and says each index it was given. */
function appender(path: string, region: object, epoch: number): string {
  return `
    import { writeSync } from "node:fs";
    import { openDevice, VolumeMedia } from ${JSON.stringify(new URL("./index.ts", import.meta.url).href)};
    const device = await openDevice(${JSON.stringify(path)}, { writable: true });
    const media = await VolumeMedia.open(device, ${JSON.stringify(region)}, { writable: true });
    const writer = await media.takeOver({ slot: 1, nodeId: "child", bootId: "boot", epoch: ${epoch} });
    for (let round = 0; ; round++) {
      const count = (round % ${MAX_TRANSACTION}) + 1;
      const entries = Array.from({ length: count }, (_, position) => ({
        type: "mkdir", path: "${epoch}-" + round + "-" + position + "-" + count, uid: 0, gid: 0, mode: 493,
      }));
      writeSync(1, writer.append(entries) + " " + count + "\\n");
    }`;
}

test("kill -9 in the middle of appends leaves a valid prefix with all that was acknowledged, transactions whole", async () => {
  await using volume = await simulatedVolume({ format: { logLength: 64 * MIB } });
  const acknowledged = new Set<string>();
  for (let round = 0; round < ROUNDS; round++) {
    const epoch = 2 * round + 1;
    const script = appender(volume.path, volume.region, epoch);
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let output = "";
    child.stdout.setEncoding("latin1").on("data", (text: string) => {
      output += text;
    });
    while (output.split("\n").length < 3) await once(child.stdout, "data");
    await sleep(3 + 4 * round);
    child.kill("SIGKILL");
    await once(child, "close");
    const indexes = output.slice(0, output.lastIndexOf("\n")).split("\n");
    assert.ok(indexes.length > 1);
    for (const line of indexes) acknowledged.add(line);

    // The next owner sees the same and goes on behind it.
    await using media = await volume.open();
    await using writer = await media.takeOver(taker(0, epoch + 1));
    const end = writer.append([{ type: "mkdir", path: `after-${epoch}`, uid: 0, gid: 0, mode: 0o755 }]);
    assert.equal(writer.nextIndex, end + 1);
    writer.release();
  }

  const media = await volume.open({ writable: false });
  const names = new Map<number, string>();
  for (let more = true; more; ) {
    const polled = media.poll();
    assert.deepEqual(polled.findings, []);
    for (const { index, entry } of polled.entries) if (entry.type === "mkdir") names.set(index, entry.path);
    more = polled.more;
  }
  for (const line of acknowledged) {
    const [first = 0, count = 0] = line.split(" ").map(Number);
    for (let position = 0; position < count; position++) {
      assert.match(names.get(first + position) ?? "missing", new RegExp(`^\\d+-\\d+-${position}-${count}$`));
    }
  }
  for (const [index, name] of names) {
    const match = /^(\d+-\d+)-(\d+)-(\d+)$/.exec(name);
    if (match === null) continue;
    const [, transaction = "", position = "", count = ""] = match;
    const last = index - Number(position) + Number(count) - 1;
    assert.equal(
      names.get(last),
      `${transaction}-${Number(count) - 1}-${count}`,
      `transaction ${transaction} is whole`,
    );
  }
  assert.equal([...names.values()].filter((name) => name.startsWith("after-")).length, ROUNDS);
});
