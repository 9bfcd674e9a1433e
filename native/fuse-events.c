// What the main thread is told: requests that workers passed on, connections that ended, notifications that were
// sent. And the notifiers: one thread per connection that sends notifications and answers nothing, because the
// kernel may hold a notification until requests of that same connection are answered (design 6).
#include "fuse.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct event {
  struct event *next;
  enum event_kind kind;
  uint32_t connection;
  uint32_t token;
  int error;
  size_t length;
  uint8_t bytes[];
};

// Data of WRITEs that the main thread has not come to yet. A worker that would add more waits, and with it the kernel:
// that thread is busy for all connections.
static const size_t QUEUED_MAX = 64 << 20;
static const time_t ROOM_SECONDS = 1;

static struct {
  pthread_mutex_t lock;
  struct event *head, **tail;
  size_t bytes;
  pthread_cond_t taken;
  bool woken; // the main thread knows that there is something
  napi_threadsafe_function wake;
  uintptr_t listener;  // counts calls of fuseListen
  struct worker *idle; // set while the main thread looks at the queue itself
  bool waiting;        // and is asleep
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER, .tail = &queue.head, .taken = PTHREAD_COND_INITIALIZER};

static struct event *event_new(enum event_kind kind, uint32_t connection, uint32_t token, int error,
                               const uint8_t *bytes, size_t length) {
  struct event *event = malloc(sizeof *event + length);
  if (event == NULL) return NULL;
  *event = (struct event){
      .kind = kind, .connection = connection, .token = token, .error = error, .length = length};
  if (length > 0) memcpy(event->bytes, bytes, length);
  return event;
}

static void event_queue(struct event *event) {
  pthread_mutex_lock(&queue.lock);
  *queue.tail = event;
  queue.tail = &event->next;
  queue.bytes += event->length;
  if (queue.idle != NULL) {
    if (queue.waiting) worker_wake_up(queue.idle);
    queue.waiting = false;
  } else if (!queue.woken && queue.wake != NULL)
    queue.woken = napi_call_threadsafe_function(queue.wake, NULL, napi_tsfn_nonblocking) == napi_ok;
  pthread_mutex_unlock(&queue.lock);
}

bool events_have_room(size_t length) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until); // as the condition's clock is
  until.tv_sec += ROOM_SECONDS;
  pthread_mutex_lock(&queue.lock);
  int error = 0;
  while (error == 0 && queue.bytes + length > QUEUED_MAX)
    error = pthread_cond_timedwait(&queue.taken, &queue.lock, &until);
  pthread_mutex_unlock(&queue.lock);
  return error == 0;
}

int event_push(enum event_kind kind, uint32_t connection, uint32_t token, int error, const uint8_t *bytes,
               size_t length) {
  struct event *event = event_new(kind, connection, token, error, bytes, length);
  if (event == NULL) return ENOMEM;
  event_queue(event);
  return 0;
}

void events_enter(struct worker *worker) {
  pthread_mutex_lock(&queue.lock);
  queue.idle = worker;
  pthread_mutex_unlock(&queue.lock);
}

void events_leave(void) {
  pthread_mutex_lock(&queue.lock);
  queue.idle = NULL;
  queue.waiting = false;
  if (queue.head != NULL && !queue.woken && queue.wake != NULL)
    queue.woken = napi_call_threadsafe_function(queue.wake, NULL, napi_tsfn_nonblocking) == napi_ok;
  pthread_mutex_unlock(&queue.lock);
}

bool events_before_wait(void) {
  pthread_mutex_lock(&queue.lock);
  bool empty = queue.head == NULL;
  queue.waiting = empty;
  pthread_mutex_unlock(&queue.lock);
  return empty;
}

void events_after_wait(void) {
  pthread_mutex_lock(&queue.lock);
  queue.waiting = false;
  pthread_mutex_unlock(&queue.lock);
}

static void wake_main(napi_env env, napi_value callback, void *context, void *data) {
  (void)context;
  (void)data;
  if (env == NULL) return; // the environment is being torn down
  napi_value undefined;
  napi_get_undefined(env, &undefined);
  napi_call_function(env, undefined, callback, 0, NULL, NULL);
}

// Comes late: there may be another listener by then.
static void wake_gone(napi_env env, void *listener, void *hint) {
  (void)env;
  (void)hint;
  pthread_mutex_lock(&queue.lock);
  if (queue.listener == (uintptr_t)listener) queue.wake = NULL;
  pthread_mutex_unlock(&queue.lock);
}

// fuseListen(callback): `callback` is called on this thread when there may be events
static napi_value fuse_listen(napi_env env, napi_callback_info info) {
  napi_value callback, name;
  size_t count = 1;
  napi_threadsafe_function wake;
  napi_get_cb_info(env, info, &count, &callback, NULL, NULL);
  if (queue.wake != NULL) return throw_errno(env, EBUSY, "fuseListen");
  napi_create_string_utf8(env, "famfs-fuse-events", NAPI_AUTO_LENGTH, &name);
  uintptr_t listener = queue.listener + 1; // only this thread listens
  if (napi_create_threadsafe_function(env, callback, NULL, name, 0, 1, (void *)listener, wake_gone, NULL, wake_main,
                                      &wake) != napi_ok)
    return throw_errno(env, EINVAL, "fuseListen");
  pthread_mutex_lock(&queue.lock);
  queue.listener = listener;
  queue.wake = wake;
  queue.woken = queue.head != NULL && napi_call_threadsafe_function(wake, NULL, napi_tsfn_nonblocking) == napi_ok;
  pthread_mutex_unlock(&queue.lock);
  return NULL;
}

// fuseUnlisten(): lets the event loop end
static napi_value fuse_unlisten(napi_env env, napi_callback_info info) {
  (void)env;
  (void)info;
  pthread_mutex_lock(&queue.lock);
  napi_threadsafe_function wake = queue.wake;
  queue.wake = NULL;
  queue.woken = false;
  pthread_mutex_unlock(&queue.lock);
  if (wake != NULL) napi_release_threadsafe_function(wake, napi_tsfn_abort);
  return NULL;
}

// fuseTake(buffer, state): kind of the next event, 0 when there is none. Its bytes go to `buffer`;
// state = [connection, token, errno, length].
static napi_value fuse_take(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  size_t count = 2, capacity, state_length;
  uint8_t *buffer;
  napi_typedarray_type type;
  uint32_t *state;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (!arg_bytes(env, arguments[0], &buffer, &capacity)) return NULL;
  if (napi_get_typedarray_info(env, arguments[1], &type, &state_length, (void **)&state, NULL, NULL) != napi_ok ||
      type != napi_uint32_array || state_length < 4)
    return throw_errno(env, EINVAL, "fuseTake");
  pthread_mutex_lock(&queue.lock);
  struct event *event = queue.head;
  if (event != NULL) {
    queue.head = event->next;
    if (queue.head == NULL) queue.tail = &queue.head;
    queue.bytes -= event->length;
    pthread_cond_broadcast(&queue.taken);
  } else {
    queue.woken = false;
  }
  pthread_mutex_unlock(&queue.lock);
  if (event == NULL) return make_u32(env, 0);
  size_t length = event->length < capacity ? event->length : capacity;
  memcpy(buffer, event->bytes, length);
  state[0] = event->connection;
  state[1] = event->token;
  state[2] = (uint32_t)event->error;
  state[3] = (uint32_t)length;
  uint32_t kind = event->kind;
  free(event);
  return make_u32(env, kind);
}

// ---- notifiers ----

struct notifier {
  struct notifier *next;
  uint32_t connection;
  bool stopping;
  pthread_cond_t more;
  struct event *head, **tail;
};

static struct notifier *notifiers;
static pthread_mutex_t notifier_lock = PTHREAD_MUTEX_INITIALIZER;

// Sends the notifications of `event` one after the other. Those that the kernel refused stay in it, each with the
// errno in place of its `unique`, which is 0 on the wire.
static void send_notifications(struct event *event) {
  int fd = connection_acquire(event->connection);
  size_t kept = 0;
  struct fuse_out_header header;
  for (size_t at = 0; at < event->length && fd >= 0; at += header.len) {
    memcpy(&header, event->bytes + at, sizeof header);
    if (write(fd, event->bytes + at, header.len) >= 0) continue;
    header.unique = (uint64_t)errno;
    memmove(event->bytes + kept, event->bytes + at, header.len);
    memcpy(event->bytes + kept, &header, sizeof header);
    kept += header.len;
  }
  if (fd >= 0) connection_release(event->connection);
  event->length = kept;
}

static bool are_notifications(const uint8_t *bytes, size_t length) {
  struct fuse_out_header header;
  while (length >= sizeof header) {
    memcpy(&header, bytes, sizeof header);
    if (header.len < sizeof header || header.len > length) return false;
    bytes += header.len;
    length -= header.len;
  }
  return length == 0;
}

static void *notifier_run(void *argument) {
  struct notifier *self = argument;
  pthread_mutex_lock(&notifier_lock);
  for (;;) {
    while (self->head == NULL && !self->stopping) pthread_cond_wait(&self->more, &notifier_lock);
    struct event *event = self->head;
    if (event == NULL) break;
    self->head = event->next;
    if (self->head == NULL) self->tail = &self->head;
    bool stopping = self->stopping;
    pthread_mutex_unlock(&notifier_lock);
    if (stopping) event->length = 0;
    else send_notifications(event);
    event->next = NULL;
    event_queue(event);
    pthread_mutex_lock(&notifier_lock);
  }
  for (struct notifier **link = &notifiers; *link != NULL; link = &(*link)->next) {
    if (*link == self) {
      *link = self->next;
      break;
    }
  }
  pthread_mutex_unlock(&notifier_lock);
  pthread_cond_destroy(&self->more);
  free(self);
  return NULL;
}

// Called with the lock held.
static struct notifier *notifier_of(uint32_t connection) {
  for (struct notifier *notifier = notifiers; notifier != NULL; notifier = notifier->next)
    if (notifier->connection == connection && !notifier->stopping) return notifier;
  return NULL;
}

static int notifier_start(uint32_t connection) {
  struct notifier *notifier = calloc(1, sizeof *notifier);
  if (notifier == NULL) return ENOMEM;
  notifier->connection = connection;
  notifier->tail = &notifier->head;
  pthread_cond_init(&notifier->more, NULL);
  pthread_t thread;
  pthread_attr_t detached;
  pthread_attr_init(&detached);
  // A notification may hang in the kernel until the connection is aborted: nobody joins this thread.
  pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&detached, 128 * 1024);
  pthread_mutex_lock(&notifier_lock);
  int error = pthread_create(&thread, &detached, notifier_run, notifier);
  if (error == 0) {
    notifier->next = notifiers;
    notifiers = notifier;
  } else {
    free(notifier);
  }
  pthread_mutex_unlock(&notifier_lock);
  pthread_attr_destroy(&detached);
  return error;
}

// fuseStartNotifier(connection): before anything is cached, so that no notification fails for want of a thread
static napi_value fuse_start_notifier(napi_env env, napi_callback_info info) {
  napi_value argument;
  size_t count = 1;
  uint32_t connection;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  if (!arg_u32(env, argument, &connection)) return NULL;
  int error = notifier_start(connection);
  return error != 0 ? throw_errno(env, error, "pthread_create") : NULL;
}

// fuseNotify(connection, token, bytes): queues notifications; EVENT_NOTIFIED with `token` brings those that were
// refused
static napi_value fuse_notify(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  size_t count = 3, length;
  uint32_t connection, token;
  uint8_t *bytes;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (!arg_u32(env, arguments[0], &connection) || !arg_u32(env, arguments[1], &token) ||
      !arg_bytes(env, arguments[2], &bytes, &length))
    return NULL;
  if (!are_notifications(bytes, length)) return throw_errno(env, EINVAL, "fuseNotify");
  struct event *event = event_new(EVENT_NOTIFIED, connection, token, 0, bytes, length);
  if (event == NULL) return throw_errno(env, ENOMEM, "fuseNotify");
  pthread_mutex_lock(&notifier_lock);
  struct notifier *notifier = notifier_of(connection);
  if (notifier != NULL) {
    *notifier->tail = event;
    notifier->tail = &event->next;
    pthread_cond_signal(&notifier->more);
  }
  pthread_mutex_unlock(&notifier_lock);
  if (notifier == NULL) {
    free(event);
    return throw_errno(env, ENODEV, "fuseNotify");
  }
  return NULL;
}

// fuseStopNotifier(connection): what is still queued ends with ENODEV
static napi_value fuse_stop_notifier(napi_env env, napi_callback_info info) {
  napi_value argument;
  size_t count = 1;
  uint32_t connection;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  if (!arg_u32(env, argument, &connection)) return NULL;
  pthread_mutex_lock(&notifier_lock);
  struct notifier *notifier = notifier_of(connection);
  if (notifier != NULL) {
    notifier->stopping = true;
    pthread_cond_signal(&notifier->more);
  }
  pthread_mutex_unlock(&notifier_lock);
  return NULL;
}

void fuse_events_register(napi_env env, napi_value exports) {
  export_function(env, exports, "fuseListen", fuse_listen);
  export_function(env, exports, "fuseUnlisten", fuse_unlisten);
  export_function(env, exports, "fuseTake", fuse_take);
  export_function(env, exports, "fuseStartNotifier", fuse_start_notifier);
  export_function(env, exports, "fuseNotify", fuse_notify);
  export_function(env, exports, "fuseStopNotifier", fuse_stop_notifier);
}
