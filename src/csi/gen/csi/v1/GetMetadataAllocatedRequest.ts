// Generated from proto/ by @grpc/proto-loader 0.8.1 (--defaults --oneofs --enums=String --grpcLib=@grpc/grpc-js --importFileExtension=.ts, longs: BigInt). Do not edit.
// Original file: proto/csi.proto


export interface GetMetadataAllocatedRequest {
  'snapshotId'?: (string);
  'startingOffset'?: (bigint | number | string);
  'maxResults'?: (number);
  'secrets'?: ({[key: string]: string});
}

export interface GetMetadataAllocatedRequest__Output {
  'snapshotId': (string);
  'startingOffset': (bigint);
  'maxResults': (number);
  'secrets': ({[key: string]: string});
}
