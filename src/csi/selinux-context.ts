/** Longest label that is taken: it shares one page of mount data with our own options. */
const MAX_LENGTH = 1024;
const NAME = "[A-Za-z0-9_][A-Za-z0-9_.-]*";
/** A sensitivity and its categories: `s0`, `s0:c1,c2`, `s0:c0.c1023`. */
const LEVEL = "s[0-9]+(?::c[0-9]+(?:[.,]c[0-9]+)*)?";
const LABEL = new RegExp(`^${NAME}:${NAME}:${NAME}(?::${LEVEL}(?:-${LEVEL})?)?$`);

/** How the mount flag begins that names a label for everything on a volume. */
const FLAG = "context=";

/** user:role:type, and a level where the policy has them. Nothing in it ends a quoted mount option. */
export function isSeLinuxContext(text: string): boolean {
  return text.length <= MAX_LENGTH && LABEL.test(text);
}

/**
 * The label of a mount flag `context="system_u:object_r:container_file_t:s0:c1,c2"`, as the kubelet sends it (quoted: a
 * label has commas) or without the quotes. Undefined when the flag is anything else.
 */
export function seLinuxContextIn(flag: string): string | undefined {
  if (!flag.startsWith(FLAG)) return undefined;
  const value = flag.slice(FLAG.length);
  const label = value.length > 1 && value.startsWith('"') && value.endsWith('"') ? value.slice(1, -1) : value;
  return isSeLinuxContext(label) ? label : undefined;
}
