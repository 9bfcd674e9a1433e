import type { ToolCase } from "../tool-case.ts";
import { ARENAS } from "./arenas.ts";
import { COPYING } from "./copying.ts";
import { PYTHON } from "./python.ts";
import { REFUSALS } from "./refusals.ts";
import { SHELL } from "./shell.ts";

export interface Group {
  readonly title: string;
  readonly cases: readonly ToolCase[];
}

export const GROUPS: readonly Group[] = [
  { title: "Copying, moving, unpacking", cases: COPYING },
  { title: "The shell and what is around it", cases: SHELL },
  { title: "Python, Node and their libraries", cases: PYTHON },
  { title: "Memory that processes share", cases: ARENAS },
  { title: "What famfs does not allow", cases: REFUSALS },
];

export const CASES: readonly ToolCase[] = GROUPS.flatMap((group) => group.cases);
