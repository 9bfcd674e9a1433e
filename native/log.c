// Appending to a log, and the guard that every append and every data write checks first (design 4).
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
  error = guarded_run(do_compare, &comparison);
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

// ---- append ----

enum { HEADER_SIZE = 48, NEXT_SEQNUM = 32, NEXT_INDEX = 40, ENTRY_SIZE = 544 };  // format 3.2, 3.3

struct append {
  char *log;
  uint64_t index;
  const uint8_t *entries;
  uint64_t count;
};

// The first entry of a transaction is stored last: a reader that looks past next_index stops at the first slot that
// is not valid, so it sees all of the transaction or nothing.
static void do_store_entries(void *context) {
  struct append *append = context;
  char *slot = append->log + HEADER_SIZE + append->index * ENTRY_SIZE;
  if (append->count > 1)
    store_durable(slot + ENTRY_SIZE, append->entries + ENTRY_SIZE, (append->count - 1) * ENTRY_SIZE);
  store_durable(slot, append->entries, ENTRY_SIZE);
}

static void do_store_counters(void *context) {
  struct append *append = context;
  uint64_t next = append->index + append->count;
  __atomic_store_n((uint64_t *)(void *)(append->log + NEXT_SEQNUM), next, __ATOMIC_RELEASE);
  __atomic_store_n((uint64_t *)(void *)(append->log + NEXT_INDEX), next, __ATOMIC_RELEASE);
  cache_write_back(append->log + NEXT_SEQNUM, 16);
  cache_fence();
}

static napi_value log_append(napi_env env, napi_callback_info info) {
  napi_value values[MAX_ARGUMENTS], result;
  uint32_t window, guard;
  uint64_t log_offset;
  uint8_t *entries;
  size_t length;
  struct append append = {0};
  if (!read_arguments(env, info, 5, values) || !arg_u32(env, values[0], &window) ||
      !arg_u64(env, values[1], &log_offset) || !arg_u32(env, values[2], &guard) ||
      !arg_u64(env, values[3], &append.index) || !arg_bytes(env, values[4], &entries, &length))
    return NULL;
  if (length == 0 || length % ENTRY_SIZE != 0 || log_offset % 64 != 0) return throw_errno(env, EINVAL, "logAppend");
  append.entries = entries;
  append.count = length / ENTRY_SIZE;
  // An index is below 2^53, so that nothing here overflows 64 bits.
  uint64_t end = HEADER_SIZE + (append.index + append.count) * ENTRY_SIZE;

  int error;
  append.log = window_acquire(window, log_offset, end, true, &error);
  if (append.log == NULL) return throw_errno(env, error, "logAppend");
  const char *outcome = "appended";
  error = guard_check(guard);
  if (error == ESTALE) {
    outcome = "stale";
    error = 0;
  } else if (error == 0) {
    error = guarded_run(do_store_entries, &append);
    if (error == 0 && (guarded_run(do_store_counters, &append) != 0 || guard_check(guard) != 0)) outcome = "unknown";
  }
  window_release(window);
  if (error != 0) return throw_errno(env, error, "logAppend");
  napi_create_string_utf8(env, outcome, NAPI_AUTO_LENGTH, &result);
  return result;
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
  export_function(env, exports, "logAppend", log_append);
}
