// The main thread serves requests while its event loop has nothing to do.
//
// Right before libuv would wait for descriptors, we wait in its place: for requests, and for libuv's own epoll. A
// request then wakes this thread directly, instead of a worker that has to wake this one (measured: cold stat 27 k/s
// through a worker). As soon as the loop has anything to do (uv_backend_timeout is 0, its epoll is readable, a timer is
// due) it gets its turn. Whenever this thread does not wait here, the kernel wakes a worker, so nothing depends on it.
#include "fuse.h"

#include <errno.h>
#include <stdlib.h>

// libuv's ABI, stable since 1.0; its headers come with Node's sources only. Handles are opaque to us.
struct uv_loop_s;
typedef void (*uv_prepare_cb)(void *handle);
typedef void (*uv_close_cb)(void *handle);
extern int uv_backend_fd(const struct uv_loop_s *loop);
extern int uv_backend_timeout(const struct uv_loop_s *loop);
extern void uv_update_time(struct uv_loop_s *loop);
extern int uv_prepare_init(struct uv_loop_s *loop, void *handle);
extern int uv_prepare_start(void *handle, uv_prepare_cb callback);
extern int uv_prepare_stop(void *handle);
extern void uv_unref(void *handle);
extern void uv_close(void *handle, uv_close_cb callback);
#define UV_HANDLE_ROOM 1024 // uv_prepare_t is 120 bytes

// One per process, used by the thread that started it only.
static struct {
  napi_env env;
  struct uv_loop_s *loop;
  struct worker *worker;
  void *handle;
  napi_ref callback;
  napi_ref nothing;
  napi_async_context context;
} idle;

static void free_handle(void *handle) { free(handle); }

// Most requests are answered when the callback returns. Only when it says that something is still to be done are the
// promises and ticks that it left behind run, as after any callback of the event loop: that costs more than a READ
// (measured: 3 us, a quarter of what this thread does for a READ of 4 KiB).
static void call_back(size_t length) {
  napi_env env = idle.env;
  napi_handle_scope scope;
  napi_value callback, nothing, receiver, argument, result;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  napi_get_reference_value(env, idle.callback, &callback);
  napi_get_global(env, &receiver);
  napi_create_uint32(env, (uint32_t)length, &argument);
  bool answered = false;
  napi_status status = napi_call_function(env, receiver, callback, 1, &argument, &result);
  if (status == napi_ok) napi_get_value_bool(env, result, &answered);
  if (status == napi_ok && !answered) {
    napi_get_reference_value(env, idle.nothing, &nothing);
    status = napi_make_callback(env, idle.context, receiver, nothing, 0, NULL, NULL);
  }
  if (status == napi_pending_exception) {
    napi_value error;
    napi_get_and_clear_last_exception(env, &error);
    napi_fatal_exception(env, error);
  }
  napi_close_handle_scope(env, scope);
}

static napi_value do_nothing(napi_env env, napi_callback_info info) {
  (void)env, (void)info;
  return NULL;
}

static void before_poll(void *handle) {
  events_enter(idle.worker);
  while (idle.handle == handle) {
    uv_update_time(idle.loop);
    int timeout = uv_backend_timeout(idle.loop);
    if (timeout == 0) break;
    size_t length = 0; // of a request of our own; 0: there are events
    if (events_before_wait()) {
      enum wait_end end = worker_wait(idle.worker, timeout, &length);
      events_after_wait();
      if (end == WAIT_WATCHED) break;
      if (end == WAIT_NOTHING) continue;
    }
    call_back(length);
  }
  events_leave();
}

// fuseIdleStart(worker, callback)
static napi_value idle_start(napi_env env, napi_callback_info info) {
  napi_value arguments[2], name, resource, nothing;
  size_t count = 2;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  struct worker *worker = worker_of(env, arguments[0]);
  if (worker == NULL) return NULL;
  if (idle.handle != NULL) return throw_errno(env, EBUSY, "fuseIdleStart");
  struct uv_loop_s *loop;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return throw_errno(env, EINVAL, "napi_get_uv_event_loop");
  int error = worker_watch(worker, uv_backend_fd(loop));
  if (error != 0) return throw_errno(env, error, "epoll_ctl");
  void *handle = calloc(1, UV_HANDLE_ROOM);
  if (handle == NULL) return throw_errno(env, ENOMEM, "calloc");
  napi_create_string_utf8(env, "famfs-fuse-idle", NAPI_AUTO_LENGTH, &name);
  napi_create_object(env, &resource);
  napi_async_init(env, resource, name, &idle.context);
  napi_create_reference(env, arguments[1], 1, &idle.callback);
  napi_create_function(env, NULL, 0, do_nothing, NULL, &nothing);
  napi_create_reference(env, nothing, 1, &idle.nothing);
  idle.env = env;
  idle.loop = loop;
  idle.worker = worker;
  idle.handle = handle;
  uv_prepare_init(loop, handle);
  uv_prepare_start(handle, before_poll);
  uv_unref(handle); // does not keep the loop alive
  return NULL;
}

// fuseIdleStop()
static napi_value idle_stop(napi_env env, napi_callback_info info) {
  (void)info;
  if (idle.handle == NULL || idle.env != env) return NULL;
  void *handle = idle.handle;
  idle.handle = NULL;
  uv_prepare_stop(handle);
  uv_close(handle, free_handle);
  napi_async_destroy(env, idle.context);
  napi_delete_reference(env, idle.callback);
  napi_delete_reference(env, idle.nothing);
  return NULL;
}

void fuse_idle_register(napi_env env, napi_value exports) {
  export_function(env, exports, "fuseIdleStart", idle_start);
  export_function(env, exports, "fuseIdleStop", idle_stop);
}
