#!/usr/bin/env node
// Runs the famfs-csi program from a checkout, setting it up first when needed.
import { fileURLToPath } from "node:url";
import { runInProject, setUp } from "./setup.mjs";

setUp();
runInProject("node", [
  "--disable-warning=ExperimentalWarning",
  fileURLToPath(new URL("../src/cli/main.ts", import.meta.url)),
  ...process.argv.slice(2),
]);
