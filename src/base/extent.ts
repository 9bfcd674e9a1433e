/** A contiguous range of a device, or of a volume's region: its owner says of which. Bytes. */
export interface Extent {
  readonly offset: number;
  readonly length: number;
}
