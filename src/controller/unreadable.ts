import type { ControllerContext } from "./context.ts";

/** Tells of objects that are there and are no records: each stops only what depends on it, but until somebody mends it. */
export function tellUnreadable({ store, events }: Pick<ControllerContext, "store" | "events">): void {
  for (const { name, reason } of store.informer("volumes").unreadable()) {
    events.record({ reason: "VolumeUnreadable", volumeId: name, message: `volume ${name} cannot be read: ${reason}` });
  }
  for (const { name, reason } of store.informer("devices").unreadable()) {
    events.record({
      reason: "DeviceUnreadable",
      deviceUuid: name,
      message: `device ${name} cannot be read: ${reason}`,
    });
  }
  for (const { name, reason } of store.informer("nodes").unreadable()) {
    const message = `the heartbeat of node ${name} cannot be read: ${reason}`;
    events.record({ reason: "HeartbeatUnreadable", nodeId: name, message });
  }
}
