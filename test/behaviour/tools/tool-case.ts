/** One case of the tool matrix: a real program, what it does in a directory of the mount, and what must come of it. */
export interface ToolCase {
  /** Unique; also the name of the directory the case works in, with dashes. */
  readonly name: string;
  /** Commands, and Python modules as `python:NAME`. `bash` and `python:` are always needed and not listed. */
  readonly needs: readonly string[];
  /** Exactly one of the two; runs in the case's own empty directory. See prelude.sh and famfs_case.py. */
  readonly bash?: string;
  readonly python?: string;
  /** "works", or what the one refused step answers. The script reports a refusal with `refused` or `outcome`. */
  readonly outcome?: string;
  /** The same on an ordinary file system, when it differs. */
  readonly elsewhere?: string;
  /** Needs users besides itself, which the root of a user namespace does not have. */
  readonly allUsers?: true;
  /** For the table in the docs. */
  readonly note?: string;
}

export const WORKS = "works";
