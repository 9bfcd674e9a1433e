// Generated from proto/ by @grpc/proto-loader 0.8.1 (--defaults --oneofs --enums=String --grpcLib=@grpc/grpc-js --importFileExtension=.ts, longs: BigInt). Do not edit.
// Original file: proto/csi.proto


export interface CapacityRange {
  'requiredBytes'?: (bigint | number | string);
  'limitBytes'?: (bigint | number | string);
}

export interface CapacityRange__Output {
  'requiredBytes': (bigint);
  'limitBytes': (bigint);
}
