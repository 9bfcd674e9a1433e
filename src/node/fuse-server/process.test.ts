import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { test } from "node:test";
import { silentLogger } from "../../base/index.ts";
import { Channel, type Port } from "./channel.ts";
import type { PluginCalls, ServerCalls } from "./messages.ts";
import { pluginPort } from "./process.ts";

test("a grant that comes when nobody waits for it any more is given back, by its epoch", async () => {
  const sent: { id: number; name: string; request: unknown }[] = [];
  const plugin = new EventEmitter() as EventEmitter & Port;
  plugin.send = (message, callback) => {
    sent.push(message as (typeof sent)[number]);
    callback(null);
    return true;
  };
  const port = pluginPort(new Channel<PluginCalls, ServerCalls>(plugin, {} as never), "v1", silentLogger);
  const giveUp = new AbortController();
  const asked = port.acquireWriter({ timeoutMs: 1000, highestEpoch: 0, signal: giveUp.signal });
  giveUp.abort();
  await assert.rejects(asked, { code: "CANCELLED" });
  plugin.emit("message", { type: "answer", id: sent[0]?.id, answer: { epoch: 7, slot: 0 } });
  await new Promise(setImmediate);
  const { name, request } = sent[1] ?? {};
  assert.deepEqual({ name, request }, { name: "releaseWriter", request: { volumeId: "v1", epoch: 7 } });
});
