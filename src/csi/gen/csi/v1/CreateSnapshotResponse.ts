// Generated from proto/ by @grpc/proto-loader 0.8.1 (--defaults --oneofs --enums=String --grpcLib=@grpc/grpc-js --importFileExtension=.ts, longs: BigInt). Do not edit.
// Original file: proto/csi.proto

import type { Snapshot as _csi_v1_Snapshot, Snapshot__Output as _csi_v1_Snapshot__Output } from '../../csi/v1/Snapshot.ts';

export interface CreateSnapshotResponse {
  'snapshot'?: (_csi_v1_Snapshot | null);
}

export interface CreateSnapshotResponse__Output {
  'snapshot': (_csi_v1_Snapshot__Output | null);
}
