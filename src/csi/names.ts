/** The driver name: CSI plugin name, and prefix of every key of ours. */
export const DRIVER_NAME = "famfs.csi.dev";

/** Topology segment: the set of nodes that reach the same pools, named by the administrator. */
export const FABRIC_SEGMENT = `${DRIVER_NAME}/fabric`;
