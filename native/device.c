// Zeroing of ranges on threads of their own, and the lock that a killed process cannot leave behind.
#include "job.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

static int make_hole(int fd, uint64_t offset, uint64_t length) {
  int result;
  do {
    result = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length);
  } while (result < 0 && errno == EINTR);
  return result < 0 ? errno : 0;
}

static void run_punch_hole(job *self) {
  self->error = make_hole(self->fd, self->offset, self->length);
}

static napi_value punch_small_hole(napi_env env, napi_callback_info info) {
  napi_value values[MAX_ARGUMENTS];
  int32_t fd;
  uint64_t offset, length;
  if (!read_arguments(env, info, 3, values) || !arg_i32(env, values[0], &fd) || !arg_u64(env, values[1], &offset) ||
      !arg_u64(env, values[2], &length))
    return NULL;
  int error = make_hole(fd, offset, length);
  return error == 0 ? NULL : throw_errno(env, error, "fallocate");
}

static napi_value punch_hole(napi_env env, napi_callback_info info) {
  napi_value values[MAX_ARGUMENTS];
  int32_t fd;
  uint64_t offset, length;
  if (!read_arguments(env, info, 3, values) || !arg_i32(env, values[0], &fd) || !arg_u64(env, values[1], &offset) ||
      !arg_u64(env, values[2], &length))
    return NULL;
  job *self = job_create(env);
  if (self == NULL) return NULL;
  // A copy: the caller may close its own, and the number be used again, before the job runs.
  self->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (self->fd < 0) {
    int error = errno;
    job_free(self);
    return throw_errno(env, error, "fcntl");
  }
  self->offset = offset;
  self->length = length;
  self->run = run_punch_hole;
  return job_start(env, self, "fallocate");
}

// Bytes zeroed before the window is let go for a moment, so that closing it waits for milliseconds only.
#define ZERO_STEP (UINT64_C(4) << 20)

struct zero {
  char *at;
  size_t length;
};

static void do_zero(void *context) {
  struct zero *zero = context;
  store_durable(zero->at, NULL, zero->length);
}

static void run_zero_range(job *self) {
  for (uint64_t done = 0; done < self->length && self->error == 0; done += ZERO_STEP) {
    uint64_t left = self->length - done;
    struct zero zero = {.length = left < ZERO_STEP ? left : ZERO_STEP};
    zero.at = window_acquire(self->window, self->offset + done, zero.length, true, &self->error);
    if (zero.at == NULL) return;
    self->error = faultable_run(do_zero, &zero);
    window_release(self->window);
  }
}

static napi_value zero_range(napi_env env, napi_callback_info info) {
  napi_value values[MAX_ARGUMENTS];
  uint32_t window;
  uint64_t offset, length;
  if (!read_arguments(env, info, 3, values) || !arg_u32(env, values[0], &window) ||
      !arg_u64(env, values[1], &offset) || !arg_u64(env, values[2], &length))
    return NULL;
  job *self = job_create(env);
  if (self == NULL) return NULL;
  self->window = window;
  self->offset = offset;
  self->length = length;
  self->run = run_zero_range;
  return job_start(env, self, "zeroRange");
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
  export_function(env, exports, "punchSmallHole", punch_small_hole);
  export_function(env, exports, "zeroRange", zero_range);
  export_function(env, exports, "tryLock", try_lock);
}
