// Workers: threads that wait for requests of all connections, and answer READ and WRITE from windows.
#include "fuse.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_WORKERS 64
#define MAX_SEGMENTS 1023 // with the header, IOV_MAX
// Requests taken from one connection before the others get a look.
#define STREAK 32
// Every so many requests, see whether more of them wait.
#define HOT_EVERY 4
// Answers of so many bytes go out in one piece from a buffer that is in the caches: the kernel then looks up one page
// instead of two (measured with 4 KiB: 9 instead of 10 us of this process).
#define SMALL_REPLY 16384
#define WAKE UINT64_MAX
#define WATCHED (UINT64_MAX - 1)

struct worker {
  bool used;
  bool bounce_always;
  int epoll;
  int wake;
  uint32_t connection; // whose request is in `buffer`; 0 before the first
  unsigned streak;
  unsigned taken;
  bool hot; // the last look at `connection` without asking epoll found something
  size_t length; // of that request
  uint8_t *buffer;
  size_t capacity;
  double *segments; // pairs (offset, length), filled by JavaScript
  uint32_t *state;  // [0] = connection, read by JavaScript
  uint8_t *bounce;
  napi_ref keep[3];
};

// Slots are filled and emptied under the lock; in between only the thread that opened a slot uses it, and
// fuseWake uses the eventfd, which its owner closes only after that thread has ended.
static struct worker workers[MAX_WORKERS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

struct worker *worker_of(napi_env env, napi_value value) {
  uint32_t id;
  if (!arg_u32(env, value, &id)) return NULL;
  if (id >= MAX_WORKERS || !workers[id].used) {
    throw_errno(env, EBADF, "worker");
    return NULL;
  }
  return &workers[id];
}

static void worker_close(napi_env env, struct worker *worker) {
  if (worker->epoll >= 0) {
    poll_remove(worker->epoll);
    close(worker->epoll);
  }
  free(worker->bounce);
  for (size_t i = 0; i < 3; i++)
    if (worker->keep[i] != NULL) napi_delete_reference(env, worker->keep[i]);
  int wake = worker->wake;
  pthread_mutex_lock(&lock);
  memset(worker, 0, sizeof *worker);
  pthread_mutex_unlock(&lock);
  // Only now: until the slot is free, fuseWake of another thread may write to this number, whatever it names.
  if (wake >= 0) close(wake);
}

// fuseWorkerOpen(buffer: Uint8Array, segments: Float64Array, state: Uint32Array, bounce: boolean): worker
static napi_value worker_open(napi_env env, napi_callback_info info) {
  napi_value arguments[4];
  size_t count = 4, capacity, segments_length, state_length;
  void *buffer, *segments, *state;
  bool bounce;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (!arg_array(env, arguments[0], napi_uint8_array, &buffer, &capacity) ||
      !arg_array(env, arguments[1], napi_float64_array, &segments, &segments_length) ||
      !arg_array(env, arguments[2], napi_uint32_array, &state, &state_length) ||
      !arg_bool(env, arguments[3], &bounce))
    return NULL;
  if (segments_length < 2 * MAX_SEGMENTS || state_length < 1) return throw_errno(env, EINVAL, "fuseWorkerOpen");
  // The kernel must not fault while it writes a request here: a fatal signal during such a fault would lose it.
  memset(buffer, 0, capacity);
  // A worker that is woken must not push the main thread or the program that waits for it off their processors: those
  // two are at it already, and a worker only helps where a processor is free. (Measured with 2 processors: open-close
  // 40 k/s without this, 60 k/s with it.) Not the main thread, where it would do the same to everything else.
  if (gettid() != getpid()) sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0});

  pthread_mutex_lock(&lock);
  uint32_t id = 0;
  while (id < MAX_WORKERS && workers[id].used) id++;
  struct worker *worker = id < MAX_WORKERS ? &workers[id] : NULL;
  if (worker != NULL) *worker = (struct worker){.used = true, .epoll = -1, .wake = -1};
  pthread_mutex_unlock(&lock);
  if (worker == NULL) return throw_errno(env, EMFILE, "fuseWorkerOpen");

  worker->buffer = buffer;
  worker->capacity = capacity;
  worker->segments = segments;
  worker->state = state;
  worker->bounce_always = bounce;
  for (size_t i = 0; i < 3; i++) napi_create_reference(env, arguments[i], 1, &worker->keep[i]);
  worker->bounce = malloc(capacity); // what is sent from it has been copied there, so it is touched then
  int error = worker->bounce == NULL ? ENOMEM : 0;
  if (error == 0 && ((worker->epoll = epoll_create1(EPOLL_CLOEXEC)) < 0 ||
                     (worker->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0))
    error = errno;
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = WAKE};
  if (error == 0 && epoll_ctl(worker->epoll, EPOLL_CTL_ADD, worker->wake, &event) < 0) error = errno;
  if (error == 0) error = poll_add(worker->epoll);
  if (error != 0) {
    worker_close(env, worker);
    return throw_errno(env, error, "fuseWorkerOpen");
  }
  return make_u32(env, id);
}

// fuseWorkerClose(worker)
static napi_value worker_close_call(napi_env env, napi_callback_info info) {
  napi_value argument;
  size_t count = 1;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  struct worker *worker = worker_of(env, argument);
  if (worker != NULL) worker_close(env, worker);
  return NULL;
}

// fuseWake(worker)
static napi_value worker_wake(napi_env env, napi_callback_info info) {
  napi_value argument;
  size_t count = 1;
  uint32_t id;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  if (!arg_u32(env, argument, &id)) return NULL;
  pthread_mutex_lock(&lock);
  uint64_t one = 1;
  if (id < MAX_WORKERS && workers[id].used && write(workers[id].wake, &one, sizeof one) < 0) {
    // only when the counter is full: it is readable then
  }
  pthread_mutex_unlock(&lock);
  return NULL;
}

// Reads one request of `connection` into the worker's buffer. Returns its length, or 0 when there is none.
static size_t take_request(struct worker *worker, uint32_t connection) {
  int fd = connection_acquire(connection);
  if (fd < 0) return 0;
  ssize_t length = read(fd, worker->buffer, worker->capacity);
  int error = length < 0 ? errno : 0;
  connection_release(connection);
  if (length >= (ssize_t)sizeof(struct fuse_in_header)) return (size_t)length;
  // Gone while it was read (ENOENT), refused as too big (EIO, E2BIG), taken by another worker (EAGAIN): go on.
  if (error != EAGAIN && error != EINTR && error != ENOENT && error != EIO && error != E2BIG)
    connection_end(connection, error); // ENODEV unmounted, ECONNABORTED, EPERM never mounted, EINVAL
  return 0;
}

void worker_wake_up(struct worker *worker) {
  uint64_t one = 1;
  if (write(worker->wake, &one, sizeof one) < 0) return; // the counter is full: it is readable then
}

int worker_watch(struct worker *worker, int fd) {
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = WATCHED};
  return epoll_ctl(worker->epoll, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : errno;
}

enum wait_end worker_wait(struct worker *worker, int timeout_ms, size_t *length) {
  worker->length = 0;
  // Under load, more of the connection that was busy a moment ago, without asking epoll; the others get their turn
  // after a while. Otherwise that look would be in vain nearly always, and cost a system call.
  if (worker->hot && worker->streak < STREAK) {
    worker->streak++;
    worker->length = take_request(worker, worker->connection);
    worker->hot = worker->length != 0;
  }
  while (worker->length == 0) {
    struct epoll_event event;
    int ready = epoll_wait(worker->epoll, &event, 1, timeout_ms);
    if (ready <= 0) return WAIT_NOTHING;
    if (event.data.u64 == WATCHED) return WAIT_WATCHED;
    if (event.data.u64 == WAKE) {
      uint64_t drained;
      if (read(worker->wake, &drained, sizeof drained) < 0) continue; // somebody drained it already
      return WAIT_NOTHING;
    }
    worker->connection = (uint32_t)event.data.u64;
    worker->streak = 0;
    worker->length = take_request(worker, worker->connection);
    worker->hot = ++worker->taken % HOT_EVERY == 0;
  }
  worker->state[0] = worker->connection;
  *length = worker->length;
  return WAIT_REQUEST;
}

// fuseReceive(worker, timeoutMs): length of the next request, 0 after a timeout or a wake
static napi_value worker_receive(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  size_t count = 2, length = 0;
  int32_t timeout;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  struct worker *worker = worker_of(env, arguments[0]);
  if (worker == NULL || !arg_i32(env, arguments[1], &timeout)) return NULL;
  worker_wait(worker, timeout, &length);
  return make_u32(env, (uint32_t)length);
}

// fuseForward(worker): hands the request in the buffer to the main thread
static napi_value worker_forward(napi_env env, napi_callback_info info) {
  napi_value argument;
  size_t count = 1;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  struct worker *worker = worker_of(env, argument);
  if (worker == NULL || worker->length == 0) return NULL;
  const struct fuse_in_header *header = (const struct fuse_in_header *)worker->buffer;
  int error = header->opcode == FUSE_WRITE && !events_have_room(worker->length) ? EAGAIN : 0;
  if (error == 0) error = event_push(EVENT_REQUEST, worker->connection, 0, 0, worker->buffer, worker->length);
  if (error != 0 && header->opcode != FUSE_FORGET && header->opcode != FUSE_BATCH_FORGET)
    reply_error(worker->connection, header->unique, error);
  return NULL;
}

// fuseReplyError(worker, errno): answers the request in the buffer
static napi_value worker_reply_error(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  size_t count = 2;
  int32_t error;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  struct worker *worker = worker_of(env, arguments[0]);
  if (worker == NULL || !arg_i32(env, arguments[1], &error)) return NULL;
  const struct fuse_in_header *header = (const struct fuse_in_header *)worker->buffer;
  return make_i32(env, reply_error(worker->connection, header->unique, error));
}

// Fills iov[1..] with the segments, from the window where that is populated, otherwise from the bounce buffer.
// Returns how many segments were acquired (to be released), and sets *error.
static uint32_t gather(struct worker *worker, uint32_t window, uint32_t count, struct iovec *iov, int *error) {
  size_t bounced = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint64_t offset = (uint64_t)worker->segments[2 * i], length = (uint64_t)worker->segments[2 * i + 1];
    char *from = window_acquire(window, offset, length, false, error);
    if (from == NULL) return i;
    *error = window_refresh(window, from, length);
    if (*error == 0 && (worker->bounce_always || window_populate(window, offset, length) != 0)) {
      *error = bounced + length > worker->capacity ? ERANGE : faultable_copy(worker->bounce + bounced, from, length);
      from = (char *)worker->bounce + bounced;
      bounced += length;
    }
    iov[i + 1] = (struct iovec){.iov_base = from, .iov_len = length};
    if (*error != 0) return i + 1;
  }
  return count;
}

static uint64_t total_length(const struct worker *worker, uint32_t count) {
  uint64_t total = 0;
  for (uint32_t i = 0; i < count; i++) total += (uint64_t)worker->segments[2 * i + 1];
  return total;
}

// The segments, of SMALL_REPLY bytes at most, behind the header of an answer in the bounce buffer.
static int copy_small(struct worker *worker, uint32_t window, uint32_t count) {
  uint8_t *to = worker->bounce + sizeof(struct fuse_out_header);
  int error = 0;
  for (uint32_t i = 0; i < count && error == 0; i++) {
    uint64_t offset = (uint64_t)worker->segments[2 * i], length = (uint64_t)worker->segments[2 * i + 1];
    char *from = window_acquire(window, offset, length, false, &error);
    if (from == NULL) return error;
    error = window_refresh(window, from, length);
    if (error == 0) error = faultable_copy(to, from, length);
    window_release(window);
    to += length;
  }
  return error;
}

static int reply_small(struct worker *worker, uint32_t window, uint32_t count, uint64_t total) {
  const struct fuse_in_header *request = (const struct fuse_in_header *)worker->buffer;
  struct fuse_out_header header = {.len = (uint32_t)(sizeof header + total), .unique = request->unique};
  memcpy(worker->bounce, &header, sizeof header);
  int error = copy_small(worker, window, count);
  int fd = error == 0 ? connection_acquire(worker->connection) : -1;
  if (fd >= 0) {
    if (write(fd, worker->bounce, header.len) < 0 && errno != ENOENT) error = errno;
    connection_release(worker->connection);
  }
  if (error != 0) reply_error(worker->connection, request->unique, error == ERANGE || error == EBADF ? EIO : error);
  return error;
}

// fuseReplyRead(worker, window, count): errno. Answers the READ in the buffer with the first `count` segments, and
// with that errno when they cannot be had.
static napi_value worker_reply_read(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  size_t argument_count = 3;
  uint32_t window, count;
  napi_get_cb_info(env, info, &argument_count, arguments, NULL, NULL);
  struct worker *worker = worker_of(env, arguments[0]);
  if (worker == NULL || !arg_u32(env, arguments[1], &window) || !arg_u32(env, arguments[2], &count)) return NULL;
  if (count > MAX_SEGMENTS) return throw_errno(env, ERANGE, "fuseReplyRead");
  uint64_t total = total_length(worker, count);
  if (total <= SMALL_REPLY && total + sizeof(struct fuse_out_header) <= worker->capacity)
    return make_i32(env, reply_small(worker, window, count, total));

  const struct fuse_in_header *request = (const struct fuse_in_header *)worker->buffer;
  struct fuse_out_header header = {.len = sizeof header, .unique = request->unique};
  struct iovec iov[1 + MAX_SEGMENTS];
  iov[0] = (struct iovec){.iov_base = &header, .iov_len = sizeof header};
  int error = 0;
  uint32_t acquired = gather(worker, window, count, iov, &error);
  for (uint32_t i = 0; i < count && error == 0; i++) header.len += (uint32_t)iov[i + 1].iov_len;
  int fd = error == 0 ? connection_acquire(worker->connection) : -1;
  if (fd >= 0) {
    // EFAULT: the memory went bad after it was populated; the kernel has then failed the request with EIO itself.
    if (writev(fd, iov, (int)count + 1) < 0 && errno != ENOENT) error = errno == EFAULT ? EIO : errno;
    connection_release(worker->connection);
  }
  for (uint32_t i = 0; i < acquired; i++) window_release(window);
  if (error != 0) reply_error(worker->connection, request->unique, error == ERANGE || error == EBADF ? EIO : error);
  return make_i32(env, error);
}

// D1 to D3 of src/media/ownership/protocol.ts: copies `bytes` into the segments, at most DATA_PIECE of them between two
// looks. ESTALE: the guard does not hold, and nothing was stored; ECANCELED: it stopped to hold while bytes were being
// stored. A guard that is gone was given up: the main thread says what became of it.
enum { DATA_PIECE = 64 * 1024 };

static int look_after(uint32_t guard) {
  if (guard == 0) return 0;
  cache_fence();
  int error = guard_check(guard);
  return error == ESTALE || error == EBADF ? ECANCELED : error;
}

static int store_segments(uint32_t guard, uint32_t window, const double *segments, uint32_t count, const uint8_t *bytes,
                          size_t available) {
  int error = guard_check(guard);
  if (error == EBADF) error = ESTALE;
  size_t done = 0, unlooked = 0;
  for (uint32_t i = 0; i < count && error == 0; i++) {
    uint64_t offset = (uint64_t)segments[2 * i], length = (uint64_t)segments[2 * i + 1];
    if (done > available || length > available - done) return ERANGE;
    while (length > 0 && error == 0) {
      size_t piece = length < DATA_PIECE - unlooked ? length : DATA_PIECE - unlooked;
      error = window_store(window, offset, bytes + done, piece);
      offset += piece;
      length -= piece;
      done += piece;
      unlooked += piece;
      if (error == 0 && unlooked == DATA_PIECE) {
        error = look_after(guard);
        unlooked = 0;
      }
    }
  }
  return error == 0 && unlooked > 0 ? look_after(guard) : error;
}

// fuseCopyIn(guard, window, segments, count, bytes, start): errno. The data of a WRITE.
static napi_value fuse_copy_in(napi_env env, napi_callback_info info) {
  napi_value arguments[6];
  size_t argument_count = 6, segments_length, available;
  uint32_t guard, window, count, start;
  void *segments_data;
  uint8_t *bytes;
  napi_get_cb_info(env, info, &argument_count, arguments, NULL, NULL);
  if (!arg_u32(env, arguments[0], &guard) || !arg_u32(env, arguments[1], &window) ||
      !arg_array(env, arguments[2], napi_float64_array, &segments_data, &segments_length) ||
      !arg_u32(env, arguments[3], &count) || !arg_bytes(env, arguments[4], &bytes, &available) ||
      !arg_u32(env, arguments[5], &start))
    return NULL;
  if (2 * (size_t)count > segments_length) return throw_errno(env, ERANGE, "fuseCopyIn");
  if (start > available) return throw_errno(env, ERANGE, "fuseCopyIn");
  return make_i32(env, store_segments(guard, window, segments_data, count, bytes + start, available - start));
}

// fuseReplyWrite(worker, guard, window, count, start): errno. Does the WRITE in the buffer, whose data begins at
// `start`, into the first `count` segments, and answers it; one that cannot be done is left for the caller to answer.
static napi_value worker_reply_write(napi_env env, napi_callback_info info) {
  napi_value arguments[5];
  size_t argument_count = 5;
  uint32_t guard, window, count, start;
  napi_get_cb_info(env, info, &argument_count, arguments, NULL, NULL);
  struct worker *worker = worker_of(env, arguments[0]);
  if (worker == NULL || !arg_u32(env, arguments[1], &guard) || !arg_u32(env, arguments[2], &window) ||
      !arg_u32(env, arguments[3], &count) || !arg_u32(env, arguments[4], &start))
    return NULL;
  if (count > MAX_SEGMENTS || start > worker->length) return throw_errno(env, ERANGE, "fuseReplyWrite");
  int error = store_segments(guard, window, worker->segments, count, worker->buffer + start, worker->length - start);
  if (error != 0) return make_i32(env, error);
  const struct fuse_in_header *request = (const struct fuse_in_header *)worker->buffer;
  struct {
    struct fuse_out_header header;
    struct fuse_write_out out;
  } reply = {.header = {.len = sizeof reply, .unique = request->unique},
             .out = {.size = (uint32_t)total_length(worker, count)}};
  int fd = connection_acquire(worker->connection);
  if (fd >= 0) {
    if (write(fd, &reply, sizeof reply) < 0) {
      // the request was given up (ENOENT), or the connection is gone
    }
    connection_release(worker->connection);
  }
  return make_i32(env, 0);
}

void fuse_worker_register(napi_env env, napi_value exports) {
  export_function(env, exports, "fuseWorkerOpen", worker_open);
  export_function(env, exports, "fuseWorkerClose", worker_close_call);
  export_function(env, exports, "fuseWake", worker_wake);
  export_function(env, exports, "fuseReceive", worker_receive);
  export_function(env, exports, "fuseForward", worker_forward);
  export_function(env, exports, "fuseReplyError", worker_reply_error);
  export_function(env, exports, "fuseReplyRead", worker_reply_read);
  export_function(env, exports, "fuseReplyWrite", worker_reply_write);
  export_function(env, exports, "fuseCopyIn", fuse_copy_in);
}
