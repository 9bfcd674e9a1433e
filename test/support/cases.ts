/**
 * How many cases a property test generates: `usual` in `npm test`, each time others (a failure prints its seed);
 * `npm run test:long` says how many, and from which seed.
 */
export function cases(usual: number): { numRuns: number; seed?: number } {
  const { FAMFS_TEST_CASES: wanted, FAMFS_TEST_SEED: seed } = process.env;
  return {
    numRuns: wanted === undefined ? usual : Number(wanted),
    ...(seed === undefined ? {} : { seed: Number(seed) }),
  };
}
