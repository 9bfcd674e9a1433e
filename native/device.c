// Files that stand for devices: holes, and the lock that a killed process cannot leave behind.
#include "addon.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

static napi_value punch_hole(napi_env env, napi_callback_info info) {
  napi_value values[MAX_ARGUMENTS];
  int32_t fd;
  uint64_t offset, length;
  if (!read_arguments(env, info, 3, values) || !arg_i32(env, values[0], &fd) || !arg_u64(env, values[1], &offset) ||
      !arg_u64(env, values[2], &length))
    return NULL;
  int result;
  do {
    result = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length);
  } while (result < 0 && errno == EINTR);
  return result < 0 ? throw_errno(env, errno, "fallocate") : NULL;
}

static napi_value try_lock(napi_env env, napi_callback_info info) {
  napi_value values[MAX_ARGUMENTS], result;
  int32_t fd;
  bool shared;
  if (!read_arguments(env, info, 2, values) || !arg_i32(env, values[0], &fd) || !arg_bool(env, values[1], &shared))
    return NULL;
  bool locked = flock(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0;
  if (!locked && errno != EWOULDBLOCK) return throw_errno(env, errno, "flock");
  napi_get_boolean(env, locked, &result);
  return result;
}

void device_register(napi_env env, napi_value exports) {
  export_function(env, exports, "punchHole", punch_hole);
  export_function(env, exports, "tryLock", try_lock);
}
