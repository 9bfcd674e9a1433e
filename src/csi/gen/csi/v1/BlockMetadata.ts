// Generated from proto/ by @grpc/proto-loader 0.8.1 (--defaults --oneofs --enums=String --grpcLib=@grpc/grpc-js --importFileExtension=.ts, longs: BigInt). Do not edit.
// Original file: proto/csi.proto


export interface BlockMetadata {
  'byteOffset'?: (bigint | number | string);
  'sizeBytes'?: (bigint | number | string);
}

export interface BlockMetadata__Output {
  'byteOffset': (bigint);
  'sizeBytes': (bigint);
}
