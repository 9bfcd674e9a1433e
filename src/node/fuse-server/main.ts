/** The FUSE server process: started by the supervisor, serves every volume of its node plugin. */
import { runFuseServer } from "./process.ts";
import { openServing } from "./serve-attachment.ts";

runFuseServer(openServing);
