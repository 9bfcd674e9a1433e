/**
 * What a test needs from the machine. Each check answers `false` when it is there and otherwise a sentence that says
 * what is missing: the value of node:test's `skip`. test/run.ts turns a skip into a failure when CI=true.
 */
import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";

export type Missing = string | false;

/** Where test/support/install-tools puts what is not a Debian package. */
export const toolCache = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "famfs-csi");
export const pythonProgram = join(toolCache, "python", "bin", "python");
export const csiSanityProgram = join(toolCache, "bin", "csi-sanity-v5.6.0");

export function missingCommand(name: string): Missing {
  const found = (process.env["PATH"] ?? "").split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
  return found ? false : `needs the command ${name} (as root: test/support/install-tools system)`;
}

const pythonModules = new Map<string, boolean>();

/** Whether the test environment's Python has `module`; the empty string asks for Python alone. */
export function missingPython(module: string): Missing {
  const hint = "(test/support/install-tools user)";
  if (!existsSync(pythonProgram)) return `needs the Python environment ${join(toolCache, "python")} ${hint}`;
  if (module === "") return false;
  let found = pythonModules.get(module);
  if (found === undefined) {
    const code = `import importlib.util, sys; sys.exit(importlib.util.find_spec(${JSON.stringify(module)}) is None)`;
    found = spawnSync(pythonProgram, ["-c", code]).status === 0;
    pythonModules.set(module, found);
  }
  return found ? false : `needs the Python module ${module} ${hint}`;
}

export function missingCsiSanity(): Missing {
  return existsSync(csiSanityProgram)
    ? false
    : `needs ${csiSanityProgram} (test/support/install-tools user; it takes Go 1.25)`;
}

/** Root of a user namespace can give files to nobody else and drop to nobody else. */
export function missingAllUsers(): Missing {
  const wholeRange = /^\s*0\s+0\s+4294967295\s*$/.test(readFileSync("/proc/self/uid_map", "latin1"));
  return process.geteuid?.() === 0 && wholeRange ? false : "needs root outside a user namespace";
}

/** The first thing missing of several. */
export function firstMissing(...checks: Missing[]): Missing {
  return checks.find((check) => check !== false) ?? false;
}
