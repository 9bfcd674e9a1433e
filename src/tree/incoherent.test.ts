/** The tests of sharing once more, between nodes whose caches do not agree: what is not written back is not seen. */
import { useIncoherentMemory as useIncoherentVolumes } from "../../test/support/simulated-volume.ts";
import { useIncoherentMemory } from "./testing/shared-volume.ts";

useIncoherentVolumes();
useIncoherentMemory();
await import("./interleaving.test.ts");
await import("./change-feed.test.ts");
await import("./ownership.test.ts");
await import("./sealing.test.ts");
await import("./file-size.test.ts");
await import("./volume-ports.test.ts");
