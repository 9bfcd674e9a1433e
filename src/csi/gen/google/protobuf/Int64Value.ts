// Generated from proto/ by @grpc/proto-loader 0.8.1 (--defaults --oneofs --enums=String --grpcLib=@grpc/grpc-js --importFileExtension=.ts, longs: BigInt). Do not edit.
// Original file: null


export interface Int64Value {
  'value'?: (bigint | number | string);
}

export interface Int64Value__Output {
  'value': (bigint);
}
