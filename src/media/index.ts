export * from "./device.ts";
export * from "./device-contents.ts";
export * from "./device-spec.ts";
export * from "./format-volume.ts";
export * from "./label.ts";
export * from "./scan.ts";
export * from "./window.ts";
