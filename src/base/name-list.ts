/** More names make a message longer than an event, or the condition of a record, may be. */
const MOST_NAMED = 8;

/** For messages: names in order, "and 77 more" where there are many. */
export function showNames(names: readonly string[]): string {
  const sorted = names.toSorted();
  const more = sorted.length - MOST_NAMED;
  return `${sorted.slice(0, MOST_NAMED).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}
