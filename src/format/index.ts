export * from "./finding.ts";
export * from "./log-entry.ts";
export * from "./sealed-tree.ts";
