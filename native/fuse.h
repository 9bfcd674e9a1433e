// Shared by fuse.c, fuse-worker.c, fuse-events.c and fuse-idle.c.
//
// A *connection* is a /dev/fuse descriptor, named by a number that is never used twice, so that a late reply cannot
// reach a descriptor that took the old one's place. The user of the descriptor holds a reference meanwhile; it is
// closed when the last one is gone.
#ifndef FAMFS_FUSE_H
#define FAMFS_FUSE_H

#include "addon.h"

#include <linux/fuse.h>

struct worker;

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
// Waits until the main thread has come to enough of what was queued for `length` bytes more; false when it does not.
bool events_have_room(size_t length);

// While the main thread serves requests in place of its event loop (fuse-idle.c), it looks at the queue itself: it
// need not be woken while it runs, and `worker` wakes it while it waits.
void events_enter(struct worker *worker);
void events_leave(void);
// False when there are events: then it must not wait.
bool events_before_wait(void);
void events_after_wait(void);

// ---- replies (fuse.c) ----

// Sends one reply without a body. Returns 0 or an errno (ENOENT: the request is gone, ENODEV: the connection is).
int reply_error(uint32_t connection, uint64_t unique, int error);

// ---- workers (fuse-worker.c) ----

enum wait_end { WAIT_REQUEST, WAIT_NOTHING, WAIT_WATCHED };

// Throws EBADF and returns NULL when `value` is not an open worker.
struct worker *worker_of(napi_env env, napi_value value);
void worker_wake_up(struct worker *worker);
// Has worker_wait end with WAIT_WATCHED while `fd` is readable.
int worker_watch(struct worker *worker, int fd);
// Waits for one request of any connection, which is then in the worker's buffer; `*length` is its length.
enum wait_end worker_wait(struct worker *worker, int timeout_ms, size_t *length);

void fuse_worker_register(napi_env env, napi_value exports);
void fuse_events_register(napi_env env, napi_value exports);
void fuse_idle_register(napi_env env, napi_value exports);
// A worker's epoll starts and stops to watch all connections (fuse.c keeps both lists).
int poll_add(int epoll);
void poll_remove(int epoll);

#endif
