// Generated from proto/ by @grpc/proto-loader 0.8.1 (--defaults --oneofs --enums=String --grpcLib=@grpc/grpc-js --importFileExtension=.ts, longs: BigInt). Do not edit.
// Original file: null


export interface Timestamp {
  'seconds'?: (bigint | number | string);
  'nanos'?: (number);
}

export interface Timestamp__Output {
  'seconds': (bigint);
  'nanos': (number);
}
