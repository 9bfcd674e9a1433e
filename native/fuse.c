// Connections: the /dev/fuse descriptors this process serves, and replies to their requests.
#include "fuse.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define MAX_CONNECTIONS 4096
#define MAX_POLLS 256

// `state` is generation << 32 | references; without references the slot is free.
struct connection {
  _Atomic uint64_t state;
  _Atomic bool ended;
  int fd;
};

static struct connection connections[MAX_CONNECTIONS];
static int polls[MAX_POLLS];
static size_t poll_count;
static pthread_mutex_t registry = PTHREAD_MUTEX_INITIALIZER;

static struct connection *slot_of(uint32_t id) { return &connections[id % MAX_CONNECTIONS]; }
static uint32_t generation_of(uint32_t id) { return id / MAX_CONNECTIONS; }

int connection_acquire(uint32_t id) {
  struct connection *slot = slot_of(id);
  uint64_t state = atomic_load(&slot->state);
  do {
    if ((uint32_t)(state >> 32) != generation_of(id) || (uint32_t)state == 0) return -1;
  } while (!atomic_compare_exchange_weak(&slot->state, &state, state + 1));
  return slot->fd;
}

void connection_release(uint32_t id) {
  struct connection *slot = slot_of(id);
  int fd = slot->fd; // read before the slot can be taken again
  if ((uint32_t)atomic_fetch_sub(&slot->state, 1) == 1) close(fd);
}

static void unwatch(int fd) {
  for (size_t i = 0; i < poll_count; i++) epoll_ctl(polls[i], EPOLL_CTL_DEL, fd, NULL);
}

void connection_end(uint32_t id, int error) {
  int fd = connection_acquire(id);
  if (fd < 0) return;
  pthread_mutex_lock(&registry);
  bool first = !atomic_exchange(&slot_of(id)->ended, true);
  if (first) unwatch(fd);
  pthread_mutex_unlock(&registry);
  if (first) event_push(EVENT_ENDED, id, 0, error, NULL, 0);
  connection_release(id);
}

// Exclusive: one idle worker is woken per request. The kernel asks the polls in the order in which they were added,
// so the first worker stays warm and the others join under load.
static int watch(int epoll, uint32_t id, int fd) {
  struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.u64 = id};
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : errno;
}

int poll_add(int epoll) {
  int error = 0;
  pthread_mutex_lock(&registry);
  if (poll_count == MAX_POLLS) {
    error = EMFILE;
  } else {
    for (uint32_t i = 0; i < MAX_CONNECTIONS && error == 0; i++) {
      uint64_t state = atomic_load(&connections[i].state);
      if ((uint32_t)state == 0 || connections[i].ended) continue;
      error = watch(epoll, (uint32_t)(state >> 32) * MAX_CONNECTIONS + i, connections[i].fd);
    }
    if (error == 0) polls[poll_count++] = epoll;
  }
  pthread_mutex_unlock(&registry);
  return error;
}

void poll_remove(int epoll) {
  pthread_mutex_lock(&registry);
  for (size_t i = 0; i < poll_count; i++)
    if (polls[i] == epoll) polls[i] = polls[--poll_count];
  pthread_mutex_unlock(&registry);
}

// fuseConnect(fd): connection
static napi_value fuse_connect(napi_env env, napi_callback_info info) {
  napi_value argument;
  size_t count = 1;
  int32_t fd;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  if (!arg_i32(env, argument, &fd)) return NULL;
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) return throw_errno(env, errno, "fcntl");

  pthread_mutex_lock(&registry);
  uint32_t index = 0;
  while (index < MAX_CONNECTIONS && (uint32_t)atomic_load(&connections[index].state) != 0) index++;
  int error = index == MAX_CONNECTIONS ? EMFILE : 0;
  uint32_t id = 0;
  if (error == 0) {
    struct connection *slot = &connections[index];
    // Generation 0 is never used, so no id is 0; ids stay below 2^31.
    uint64_t generation = ((atomic_load(&slot->state) >> 32) + 1) % (INT32_MAX / MAX_CONNECTIONS);
    if (generation == 0) generation = 1;
    id = (uint32_t)generation * MAX_CONNECTIONS + index;
    slot->fd = fd;
    slot->ended = false;
    atomic_store(&slot->state, generation << 32 | 1);
    for (size_t i = 0; i < poll_count && error == 0; i++) error = watch(polls[i], id, fd);
    if (error != 0) {
      unwatch(fd);
      atomic_store(&slot->state, generation << 32);
    }
  }
  pthread_mutex_unlock(&registry);
  return error != 0 ? throw_errno(env, error, "epoll_ctl") : make_u32(env, id);
}

// fuseDisconnect(connection)
static napi_value fuse_disconnect(napi_env env, napi_callback_info info) {
  napi_value argument;
  size_t count = 1;
  uint32_t id;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  if (!arg_u32(env, argument, &id)) return NULL;
  int fd = connection_acquire(id);
  if (fd < 0) return NULL;
  pthread_mutex_lock(&registry);
  // Others may hold the same open file (a descriptor store), so closing alone would not stop the polls.
  if (!atomic_exchange(&slot_of(id)->ended, true)) unwatch(fd);
  pthread_mutex_unlock(&registry);
  connection_release(id);
  connection_release(id); // the one of fuseConnect
  return NULL;
}

int reply_error(uint32_t connection, uint64_t unique, int error) {
  struct fuse_out_header header = {.len = sizeof header, .error = -error, .unique = unique};
  int fd = connection_acquire(connection);
  if (fd < 0) return ENODEV;
  int result = write(fd, &header, sizeof header) < 0 ? errno : 0;
  connection_release(connection);
  return result;
}

// fuseSend(connection, bytes, length): errno
static napi_value fuse_send(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  size_t count = 3, available;
  uint32_t id, length;
  uint8_t *bytes;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (!arg_u32(env, arguments[0], &id) || !arg_bytes(env, arguments[1], &bytes, &available) ||
      !arg_u32(env, arguments[2], &length))
    return NULL;
  if (length > available) return throw_errno(env, ERANGE, "fuseSend");
  int fd = connection_acquire(id);
  if (fd < 0) return make_i32(env, ENODEV);
  int error = write(fd, bytes, length) < 0 ? errno : 0;
  connection_release(id);
  return make_i32(env, error);
}

void fuse_register(napi_env env, napi_value exports) {
  export_function(env, exports, "fuseConnect", fuse_connect);
  export_function(env, exports, "fuseDisconnect", fuse_disconnect);
  export_function(env, exports, "fuseSend", fuse_send);
  fuse_worker_register(env, exports);
  fuse_events_register(env, exports);
  fuse_idle_register(env, exports);
}
