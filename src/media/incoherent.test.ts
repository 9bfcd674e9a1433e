/** The tests of sharing once more, between hosts whose caches do not agree: what is not written back is not seen. */
import { useIncoherentMemory } from "../../test/support/simulated-volume.ts";

useIncoherentMemory();
await import("./log-reader.test.ts");
await import("./log-writer.test.ts");
await import("./crash.test.ts");
