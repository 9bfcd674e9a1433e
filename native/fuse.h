// Shared by fuse.c, fuse-worker.c and fuse-events.c.
//
// A *connection* is a /dev/fuse descriptor, named by a number that is never used twice, so that a late reply cannot
// reach a descriptor that took the old one's place. Whoever uses the descriptor holds a reference meanwhile; it is
// closed when the last one is gone.
#ifndef FAMFS_FUSE_H
#define FAMFS_FUSE_H

#include "addon.h"

#include <linux/fuse.h>

// ---- connections (fuse.c) ----

// Returns the descriptor, or -1 when the connection is closed; pair with connection_release.
int connection_acquire(uint32_t id);
void connection_release(uint32_t id);
// No worker reads it any more. Reports EVENT_ENDED once, with the errno that ended it.
void connection_end(uint32_t id, int error);

// ---- what the main thread is told (fuse-events.c) ----

enum event_kind { EVENT_REQUEST = 1, EVENT_ENDED = 2, EVENT_NOTIFIED = 3 };

// Queues a copy of `bytes` and wakes the main thread. Returns 0 or ENOMEM.
int event_push(enum event_kind kind, uint32_t connection, uint32_t token, int error, const uint8_t *bytes,
               size_t length);

// ---- replies (fuse.c) ----

// Sends one reply without a body. Returns 0 or an errno (ENOENT: the request is gone, ENODEV: the connection is).
int reply_error(uint32_t connection, uint64_t unique, int error);

void fuse_worker_register(napi_env env, napi_value exports);
void fuse_events_register(napi_env env, napi_value exports);
// A worker's epoll starts and stops to watch all connections (fuse.c keeps both lists).
int poll_add(int epoll);
void poll_remove(int epoll);

#endif
