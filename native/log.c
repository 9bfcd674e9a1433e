// The guard that every append and every data write compares, before and after (src/media/ownership/protocol.ts), and
// the steps of an append in one call.
#include "addon.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

// ---- guards ----

#define GUARDS 1024u  // a power of two: an id is generation * GUARDS + slot

struct guard {
  pthread_rwlock_t lock;
  uint32_t id;  // also of a slot that is free: the next one is larger
  uint32_t window;
  uint64_t offset;
  uint64_t length;
  uint8_t *expected;  // NULL: the slot is free
  bool invalidate;
};

static struct guard guards[GUARDS];
static pthread_mutex_t table_mutex = PTHREAD_MUTEX_INITIALIZER;  // creating and destroying only
static uint32_t next_slot;

static struct guard *guard_of(uint32_t id) { return &guards[id & (GUARDS - 1)]; }

static bool is(const struct guard *guard, uint32_t id) {
  return id != 0 && guard->id == id && guard->expected != NULL;
}

struct comparison {
  const char *memory;
  const struct guard *guard;
  bool same;
};

static void do_compare(void *context) {
  struct comparison *comparison = context;
  const struct guard *guard = comparison->guard;
  if (guard->invalidate) cache_invalidate(comparison->memory, guard->length);
  comparison->same = memcmp(comparison->memory, guard->expected, guard->length) == 0;
}

static int check(const struct guard *guard) {
  int error;
  struct comparison comparison = {.guard = guard};
  comparison.memory = window_acquire(guard->window, guard->offset, guard->length, false, &error);
  if (comparison.memory == NULL) return error;
  error = faultable_run(do_compare, &comparison);
  window_release(guard->window);
  return error != 0 ? error : comparison.same ? 0 : ESTALE;
}

int guard_check(uint32_t id) {
  if (id == 0) return 0;
  struct guard *guard = guard_of(id);
  pthread_rwlock_rdlock(&guard->lock);
  int error = is(guard, id) ? check(guard) : EBADF;
  pthread_rwlock_unlock(&guard->lock);
  return error;
}

static uint8_t *copy_of(const uint8_t *bytes, size_t length) {
  uint8_t *copy = malloc(length);
  if (copy != NULL) memcpy(copy, bytes, length);
  return copy;
}

static napi_value guard_create(napi_env env, napi_callback_info info) {
  napi_value values[MAX_ARGUMENTS];
  uint32_t window;
  uint64_t offset;
  uint8_t *expected;
  size_t length;
  bool invalidate;
  if (!read_arguments(env, info, 4, values) || !arg_u32(env, values[0], &window) || !arg_u64(env, values[1], &offset) ||
      !arg_bytes(env, values[2], &expected, &length) || !arg_bool(env, values[3], &invalidate))
    return NULL;
  if (length == 0) return throw_errno(env, EINVAL, "guardCreate");
  int error;
  if (window_acquire(window, offset, length, false, &error) == NULL) return throw_errno(env, error, "guardCreate");
  window_release(window);
  uint8_t *copy = copy_of(expected, length);
  if (copy == NULL) return throw_errno(env, ENOMEM, "guardCreate");

  uint32_t id = 0;
  pthread_mutex_lock(&table_mutex);
  for (uint32_t tries = 0; tries < GUARDS && id == 0; tries++) {
    uint32_t slot = next_slot++ & (GUARDS - 1);
    struct guard *guard = &guards[slot];
    pthread_rwlock_wrlock(&guard->lock);
    if (guard->expected == NULL) {
      uint32_t fresh = (guard->id & ~(GUARDS - 1)) + GUARDS;
      if (fresh == 0) fresh = GUARDS;  // wrapped around: generation 0 is never used, so no id is 0
      id = fresh | slot;
      guard->id = id;
      guard->window = window;
      guard->offset = offset;
      guard->length = length;
      guard->expected = copy;
      guard->invalidate = invalidate;
    }
    pthread_rwlock_unlock(&guard->lock);
  }
  pthread_mutex_unlock(&table_mutex);
  if (id != 0) return make_u32(env, id);
  free(copy);
  return throw_errno(env, EMFILE, "guardCreate");
}

static napi_value guard_update(napi_env env, napi_callback_info info) {
  napi_value values[MAX_ARGUMENTS];
  uint32_t id;
  uint8_t *expected;
  size_t length;
  if (!read_arguments(env, info, 2, values) || !arg_u32(env, values[0], &id) ||
      !arg_bytes(env, values[1], &expected, &length))
    return NULL;
  struct guard *guard = guard_of(id);
  pthread_rwlock_wrlock(&guard->lock);
  int error = !is(guard, id) ? EBADF : length != guard->length ? EINVAL : 0;
  if (error == 0) memcpy(guard->expected, expected, length);
  pthread_rwlock_unlock(&guard->lock);
  return error != 0 ? throw_errno(env, error, "guardUpdate") : NULL;
}

static napi_value guard_destroy(napi_env env, napi_callback_info info) {
  napi_value values[MAX_ARGUMENTS];
  uint32_t id;
  if (!read_arguments(env, info, 1, values) || !arg_u32(env, values[0], &id)) return NULL;
  struct guard *guard = guard_of(id);
  pthread_rwlock_wrlock(&guard->lock);
  bool there = is(guard, id);
  if (there) {
    free(guard->expected);
    guard->expected = NULL;
  }
  pthread_rwlock_unlock(&guard->lock);
  return there ? NULL : throw_errno(env, EBADF, "guardDestroy");
}

static napi_value guard_holds(napi_env env, napi_callback_info info) {
  napi_value values[MAX_ARGUMENTS], result;
  uint32_t id;
  if (!read_arguments(env, info, 1, values) || !arg_u32(env, values[0], &id)) return NULL;
  int error = guard_check(id);
  if (error != 0 && error != ESTALE) return throw_errno(env, error, "guardHolds");
  napi_get_boolean(env, error == 0, &result);
  return result;
}

// ---- plans ----

// Steps of src/media/ownership/steps.ts, four doubles each: what, where, and two operands.
enum { LOOK, STORE, STORE64, FLUSH, FENCE, STORE_PAIR };
typedef uint64_t pair __attribute__((vector_size(16)));
enum { STEP_DOUBLES = 4 };

struct step {
  int type;
  char *at;
  const uint8_t *bytes;
  uint64_t value;  // of STORE64 and STORE_PAIR
  uint64_t length;
};

static void do_step(void *context) {
  struct step *step = context;
  switch (step->type) {
    case STORE:
      memcpy(step->at, step->bytes, step->length);
      break;
    case STORE64:
      __atomic_store_n((uint64_t *)(void *)step->at, step->value, __ATOMIC_RELEASE);
      break;
    case STORE_PAIR:
      *(volatile pair *)(void *)step->at = (pair){step->value, step->value};
      break;
    case FLUSH:
      cache_write_back(step->at, step->length);
      break;
  }
}

static napi_value throw_after(napi_env env, int error, uint32_t done) {
  napi_value thrown;
  throw_errno(env, error, "planRun");
  if (napi_get_and_clear_last_exception(env, &thrown) != napi_ok) return NULL;
  napi_set_named_property(env, thrown, "done", make_u32(env, done));
  napi_throw(env, thrown);
  return NULL;
}

// Returns an errno; ESTALE: a look failed.
static int run_step(uint32_t window, uint32_t guard, const double *operands, const uint8_t *bytes, size_t available) {
  struct step step = {.type = (int)operands[0]};
  if (step.type == LOOK) return guard_check(guard);
  if (step.type == FENCE) {
    cache_fence();
    return 0;
  }
  uint64_t at = (uint64_t)operands[1];
  if (step.type == STORE) {
    uint64_t from = (uint64_t)operands[2];
    step.length = (uint64_t)operands[3];
    if (from > available || step.length > available - from) return ERANGE;
    step.bytes = bytes + from;
  } else if (step.type == STORE64 || step.type == STORE_PAIR) {
    step.value = (uint64_t)operands[2];
    step.length = step.type == STORE64 ? 8 : sizeof(pair);
    if (at % step.length != 0) return EINVAL;
  } else if (step.type == FLUSH) {
    step.length = (uint64_t)operands[2];
  } else {
    return EINVAL;
  }
  int error;
  step.at = window_acquire(window, at, step.length, true, &error);
  if (step.at == NULL) return error;
  error = faultable_run(do_step, &step);
  window_release(window);
  return error;
}

// planRun(window, guard, steps, bytes): how many steps were done. Fewer than there are: the next one is a look that
// failed. Throws EIO and what window_acquire says, with the number of steps done as `done`.
static napi_value plan_run(napi_env env, napi_callback_info info) {
  napi_value values[MAX_ARGUMENTS];
  uint32_t window, guard;
  void *data;
  uint8_t *bytes;
  size_t count, available;
  if (!read_arguments(env, info, 4, values) || !arg_u32(env, values[0], &window) || !arg_u32(env, values[1], &guard) ||
      !arg_array(env, values[2], napi_float64_array, &data, &count) || !arg_bytes(env, values[3], &bytes, &available))
    return NULL;
  const double *steps = data;
  if (count % STEP_DOUBLES != 0) return throw_errno(env, EINVAL, "planRun");
  for (size_t at = 0; at < count; at++) {
    // Integers in [0, 2^53): nothing below overflows.
    if (!(steps[at] >= 0 && steps[at] < 9007199254740992.0) || steps[at] != (double)(uint64_t)steps[at])
      return throw_errno(env, ERANGE, "planRun");
  }
  uint32_t done = 0;
  for (; done < count / STEP_DOUBLES; done++) {
    int error = run_step(window, guard, steps + (size_t)done * STEP_DOUBLES, bytes, available);
    if (error == ESTALE) break;
    if (error != 0) return throw_after(env, error, done);
  }
  return make_u32(env, done);
}

static void prepare_locks(void) {
  for (uint32_t slot = 0; slot < GUARDS; slot++) pthread_rwlock_init(&guards[slot].lock, NULL);
}

void log_register(napi_env env, napi_value exports) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, prepare_locks);
  export_function(env, exports, "guardCreate", guard_create);
  export_function(env, exports, "guardUpdate", guard_update);
  export_function(env, exports, "guardDestroy", guard_destroy);
  export_function(env, exports, "guardHolds", guard_holds);
  export_function(env, exports, "planRun", plan_run);
}
