import { InvalidArgumentError } from "commander";
import { messageOf, parseSize } from "../base/index.ts";

/** Parsers of option values: what they throw is shown with the option's name. */

export function size(text: string): number {
  try {
    return parseSize(text);
  } catch (error) {
    throw new InvalidArgumentError(messageOf(error));
  }
}

export function octal(text: string): number {
  if (!/^0?[0-7]{1,4}$/.test(text)) throw new InvalidArgumentError(`"${text}" is not an octal mode such as 755`);
  return Number.parseInt(text, 8);
}

/** A uid or gid; 2^32 - 1 means "none" to the kernel. */
export function integer(text: string): number {
  const value = Number(text);
  if (!/^[0-9]+$/.test(text) || value >= 0xffffffff) throw new InvalidArgumentError(`"${text}" is not an id`);
  return value;
}
