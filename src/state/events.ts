import type { Logger } from "../base/index.ts";
import { EVENT_REASONS, type EventReasonAbout, type EventRow, eventText } from "./event-reasons.ts";
import { EventThrottle } from "./event-throttle.ts";

/** A pod, as the kubelet names it when it publishes a volume for it. */
export interface PodName {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

/** `message` says what happened and names the objects; the way out is the reason's (event-reasons.ts). */
export type DriverEvent =
  | {
      readonly reason: EventReasonAbout<"volume">;
      readonly volumeId: string;
      readonly message: string;
      /** Pods that it concerns: each gets the event, too. */
      readonly pods?: readonly PodName[];
    }
  | { readonly reason: EventReasonAbout<"device">; readonly deviceUuid: string; readonly message: string }
  | { readonly reason: EventReasonAbout<"node">; readonly nodeId: string; readonly message: string };

/**
 * Tells people what needs them. Never throws and never waits: an event may come late, or not at all, so nothing may
 * depend on one. The same one again within some minutes is counted rather than repeated, so it may be recorded each
 * time it is noticed.
 */
export interface EventRecorder {
  record(event: DriverEvent): void;
}

/** Where there is no cluster: events are lines of the log. */
export function loggedEvents(logger: Logger): EventRecorder {
  const throttle = new EventThrottle();
  return {
    record(event) {
      const { reason } = event;
      const text = eventText(reason, event.message);
      if (throttle.admit(`${reason} ${subjectOf(event)}`, text).type === "first") logEvent(logger, event);
    },
  };
}

export function logEvent(logger: Logger, event: DriverEvent): void {
  const { message, reason, ...subject } = event;
  const row: EventRow = EVENT_REASONS[reason];
  logger[row.type === "Warning" ? "warn" : "info"]({ event: reason, ...subject }, eventText(reason, message));
}

/** The object it is about, in one word. */
export function subjectOf(event: DriverEvent): string {
  if ("volumeId" in event) return `volume ${event.volumeId}`;
  return "deviceUuid" in event ? `device ${event.deviceUuid}` : `node ${event.nodeId}`;
}
