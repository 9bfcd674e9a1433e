// Windows: mappings of device memory, named by number. Every access to one is a faultable call (fault.c).
#include "addon.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef EHWPOISON
#define EHWPOISON 133
#endif

// ---- the table ----

#define WINDOWS 4096u  // a power of two: an id is generation * WINDOWS + slot
// In the memory of a simulated device reading allocates what was a hole. A small file in its 2 MiB must not cost them
// all, nor the 4 ms that zeroing them takes (measured: reading 8,000 small files took 34 s with units of 2 MiB).
#define POPULATE_UNIT (UINT64_C(64) << 10)

// Stores of at least so many bytes have their pages mapped in before, all at once: a fault for each page of 4 KiB costs
// as much as the copy of it.
#define POPULATE_STORES (UINT64_C(32) << 10)

// `state`: bits 0..30 users, bit 31 open, bits 32..63 the id. One word, so that taking a use and checking that the
// id is still the one meant are one atomic operation. A use of a closed or other window is given back at once.
#define OPEN (UINT64_C(1) << 31)
#define USERS (OPEN - 1)

// The data of files past the caches, which do not agree between hosts.
enum window_through {
  THROUGH_NOTHING,
  THROUGH_STORES,  // one node writes at a time, others drop the lines when they hear of it
  THROUGH_ALL,     // any node may write a file while others read it
};

struct window {
  _Alignas(64) _Atomic uint64_t state;
  char *base;
  uint64_t length;
  bool writable;
  enum window_through through;
  bool simulated;  // of a simulated host: `base` is in its caches, and stays when the window is closed
  _Atomic uint64_t *populated;  // one bit per POPULATE_UNIT
};

static struct window windows[WINDOWS];
static pthread_mutex_t table_mutex = PTHREAD_MUTEX_INITIALIZER;  // opening and closing only
static uint32_t next_slot;

static struct window *window_of(uint32_t id) { return &windows[id & (WINDOWS - 1)]; }

static struct window *acquire(uint32_t id, uint64_t offset, uint64_t length, bool write, int *error) {
  struct window *window = window_of(id);
  uint64_t state = atomic_fetch_add_explicit(&window->state, 1, memory_order_acquire);
  *error = 0;
  if (id == 0 || state >> 32 != id || !(state & OPEN)) *error = EBADF;
  else if (offset > window->length || length > window->length - offset) *error = ERANGE;
  else if (write && !window->writable) *error = EROFS;
  if (*error == 0) return window;
  window_release(id);
  return NULL;
}

char *window_acquire(uint32_t id, uint64_t offset, uint64_t length, bool write, int *error) {
  struct window *window = acquire(id, offset, length, write, error);
  if (window == NULL) return NULL;
  if (!window->simulated || (*error = host_cache_load(window->base + offset, length)) == 0)
    return window->base + offset;
  window_release(id);
  return NULL;
}

struct transfer {
  char *memory;
  void *bytes;
  uint64_t length;
};

static void do_store_through(void *context) {
  struct transfer *transfer = context;
  store_durable(transfer->memory, transfer->bytes, transfer->length);
}

// The lines of the first and the last byte may have bytes beside them that another node has written meanwhile.
static void do_exchange_through(void *context) {
  struct transfer *transfer = context;
  if (transfer->length == 0) return;
  cache_invalidate(transfer->memory, 1);
  cache_invalidate(transfer->memory + transfer->length - 1, 1);
  do_store_through(transfer);
}

static void populate_for_stores(struct window *window, uint64_t offset, uint64_t length);

int window_store(uint32_t id, uint64_t offset, const void *from, uint64_t length) {
  int error;
  struct transfer transfer = {window_acquire(id, offset, length, true, &error), (void *)from, length};
  if (transfer.memory == NULL) return error;
  if (length >= POPULATE_STORES && !window_of(id)->simulated) populate_for_stores(window_of(id), offset, length);
  switch (window_of(id)->through) {
    case THROUGH_NOTHING:
      error = faultable_copy(transfer.memory, from, length);
      break;
    case THROUGH_STORES:
      error = faultable_run(do_store_through, &transfer);
      break;
    case THROUGH_ALL:
      error = faultable_run(do_exchange_through, &transfer);
      break;
  }
  window_release(id);
  return error;
}

static void do_drop(void *context) {
  struct transfer *transfer = context;
  cache_invalidate(transfer->memory, transfer->length);
}

int window_refresh(uint32_t id, char *at, uint64_t length) {
  if (window_of(id)->through != THROUGH_ALL) return 0;
  return faultable_run(do_drop, &(struct transfer){.memory = at, .length = length});
}

void window_release(uint32_t id) { atomic_fetch_sub_explicit(&window_of(id)->state, 1, memory_order_release); }

static int map_memory(int fd, uint64_t offset, uint64_t length, bool writable, const char *host, char **base) {
  if (host != NULL) return host_cache_map(fd, host, offset, length, base);
  int protection = PROT_READ | (writable ? PROT_WRITE : 0);
  *base = mmap(NULL, length, protection, MAP_SHARED | MAP_NORESERVE, fd, (off_t)offset);
  if (*base == MAP_FAILED) return errno;
  madvise(*base, length, MADV_DONTDUMP);  // a core dump is not the place for a terabyte of somebody's data
  return 0;
}

struct mapping {
  bool writable;
  enum window_through through;
  char *host;  // of the simulated host, or NULL
};

static int map_window(int fd, uint64_t offset, uint64_t length, struct mapping how, uint32_t *id) {
  if (length == 0 || length > PTRDIFF_MAX || offset > PTRDIFF_MAX) return EINVAL;
  size_t words = (size_t)((length + 64 * POPULATE_UNIT - 1) / (64 * POPULATE_UNIT));
  _Atomic uint64_t *populated = calloc(words, sizeof *populated);
  if (populated == NULL) return ENOMEM;
  char *base;
  int error = map_memory(fd, offset, length, how.writable, how.host, &base);
  if (error != 0) {
    free(populated);
    return error;
  }

  pthread_mutex_lock(&table_mutex);
  struct window *window = NULL;
  for (uint32_t tries = 0; tries < WINDOWS && window == NULL; tries++) {
    struct window *candidate = &windows[next_slot++ & (WINDOWS - 1)];
    if (candidate->base == NULL) window = candidate;
  }
  if (window != NULL) {
    uint32_t slot = (uint32_t)(window - windows);
    uint64_t state = atomic_load(&window->state);
    uint32_t fresh = (uint32_t)(state >> 32) + WINDOWS;
    if (fresh < WINDOWS) fresh = WINDOWS;  // wrapped around: generation 0 is never used, so no id is 0
    *id = (fresh & ~(WINDOWS - 1)) | slot;
    window->base = base;
    window->length = length;
    window->writable = how.writable;
    window->through = how.through;
    window->simulated = how.host != NULL;
    window->populated = populated;
    // Users of the old id may be passing through: only they change `users` now.
    while (!atomic_compare_exchange_weak(&window->state, &state, ((uint64_t)*id << 32) | OPEN | (state & USERS)));
  }
  pthread_mutex_unlock(&table_mutex);
  if (window != NULL) return 0;
  if (how.host == NULL) munmap(base, length);
  free(populated);
  return EMFILE;
}

static int unmap_window(uint32_t id) {
  struct window *window = window_of(id);
  uint64_t state = atomic_load(&window->state);
  do {
    if (id == 0 || state >> 32 != id || !(state & OPEN)) return EBADF;
  } while (!atomic_compare_exchange_weak(&window->state, &state, state & ~OPEN));
  // Closed for newcomers; those inside are in bounded calls.
  for (unsigned spins = 0; (atomic_load(&window->state) & USERS) != 0; spins++) {
    const struct timespec pause = {.tv_nsec = 50000};
    if (spins < 64) sched_yield();
    else nanosleep(&pause, NULL);
  }
  if (!window->simulated) munmap(window->base, window->length);
  free((void *)window->populated);
  window->populated = NULL;
  pthread_mutex_lock(&table_mutex);
  window->base = NULL;
  pthread_mutex_unlock(&table_mutex);
  return 0;
}

// ---- population ----

struct touch {
  volatile const char *from;
  uint64_t length;
};

static void do_touch(void *context) {
  struct touch *touch = context;
  for (uint64_t at = 0; at < touch->length; at += 4096) (void)touch->from[at];
}

static int populate_pages(char *from, uint64_t length) {
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  char *start = (char *)((uintptr_t)from & ~(page - 1));
  uint64_t bytes = length + (uint64_t)(from - start);
  if (madvise(start, bytes, MADV_POPULATE_READ) == 0) return 0;
  switch (errno) {
    case EFAULT:
    case EHWPOISON:
      return EIO;
    case EINVAL: {  // a kernel before 5.14
      struct touch touch = {start, bytes};
      return faultable_run(do_touch, &touch);
    }
    default:
      return errno;
  }
}

static bool is_populated(const struct window *window, uint64_t unit) {
  return atomic_load_explicit(&window->populated[unit / 64], memory_order_relaxed) & UINT64_C(1) << (unit & 63);
}

static int populate(struct window *window, uint64_t offset, uint64_t length) {
  if (length == 0) return 0;
  uint64_t last = (offset + length - 1) / POPULATE_UNIT;
  for (uint64_t unit = offset / POPULATE_UNIT; unit <= last; unit++) {
    if (is_populated(window, unit)) continue;
    uint64_t end = unit + 1;
    while (end <= last && !is_populated(window, end)) end++;
    uint64_t start = unit * POPULATE_UNIT;
    uint64_t stop = end * POPULATE_UNIT < window->length ? end * POPULATE_UNIT : window->length;
    if (populate_pages(window->base + start, stop - start) == 0) {
      for (uint64_t done = unit; done < end; done++)
        atomic_fetch_or_explicit(&window->populated[done / 64], UINT64_C(1) << (done & 63), memory_order_relaxed);
    } else {
      // Part of the units is bad, perhaps not the part that is wanted.
      uint64_t from = offset > start ? offset : start;
      uint64_t to = offset + length < stop ? offset + length : stop;
      int error = populate_pages(window->base + from, to - from);
      if (error != 0) return error;
    }
    unit = end;  // which is populated, or after the last one
  }
  return 0;
}

// What cannot be had is met by the store itself, in a faultable call.
static void populate_for_stores(struct window *window, uint64_t offset, uint64_t length) {
  uint64_t unit = offset / POPULATE_UNIT, last = (offset + length - 1) / POPULATE_UNIT;
  while (unit <= last && is_populated(window, unit)) unit++;
  if (unit > last) return;
  uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
  uint64_t start = unit * POPULATE_UNIT > offset ? unit * POPULATE_UNIT : offset & ~(page - 1);
  if (madvise(window->base + start, offset + length - start, MADV_POPULATE_WRITE) != 0) return;
  for (unit = (start + POPULATE_UNIT - 1) / POPULATE_UNIT; (unit + 1) * POPULATE_UNIT <= offset + length; unit++)
    atomic_fetch_or_explicit(&window->populated[unit / 64], UINT64_C(1) << (unit & 63), memory_order_relaxed);
}

int window_populate(uint32_t id, uint64_t offset, uint64_t length) {
  int error;
  struct window *window = acquire(id, offset, length, false, &error);
  if (window == NULL) return error;
  error = populate(window, offset, length);
  window_release(id);
  return error;
}

static void forget_populated(struct window *window, uint64_t offset, uint64_t length) {
  if (length == 0) return;
  if (window->simulated) host_cache_discard(window->base + offset, length);
  for (uint64_t unit = offset / POPULATE_UNIT; unit <= (offset + length - 1) / POPULATE_UNIT; unit++)
    atomic_fetch_and_explicit(&window->populated[unit / 64], ~(UINT64_C(1) << (unit & 63)), memory_order_relaxed);
}

// ---- calls from JavaScript ----

static bool is_undefined(napi_env env, napi_value value) {
  napi_valuetype type;
  return napi_typeof(env, value, &type) == napi_ok && type == napi_undefined;
}

static napi_value window_map(napi_env env, napi_callback_info info) {
  napi_value values[MAX_ARGUMENTS];
  int32_t fd;
  uint64_t offset, length;
  struct mapping how = {0};
  uint32_t id = 0, through = THROUGH_NOTHING;
  if (!read_arguments(env, info, 4, values) || !arg_i32(env, values[0], &fd) || !arg_u64(env, values[1], &offset) ||
      !arg_u64(env, values[2], &length) || !arg_bool(env, values[3], &how.writable) ||
      (!is_undefined(env, values[4]) && !arg_u32(env, values[4], &through)) ||
      (!is_undefined(env, values[5]) && !arg_string(env, values[5], &how.host)))
    return NULL;
  how.through = (enum window_through)through;
  int error = through > THROUGH_ALL ? EINVAL : map_window(fd, offset, length, how, &id);
  free(how.host);
  return error != 0 ? throw_errno(env, error, "mmap") : make_u32(env, id);
}

static napi_value window_unmap(napi_env env, napi_callback_info info) {
  napi_value values[MAX_ARGUMENTS];
  uint32_t id;
  if (!read_arguments(env, info, 1, values) || !arg_u32(env, values[0], &id)) return NULL;
  int error = unmap_window(id);
  return error != 0 ? throw_errno(env, error, "windowUnmap") : NULL;
}

// What one call does to its range of the window; run in a faultable call.
struct access {
  char *at;
  size_t length;
  uint8_t *bytes;
  uint64_t value;
};

static void do_copy_out(void *context) {
  struct access *access = context;
  memcpy(access->bytes, access->at, access->length);
}

static void do_copy_in_durable(void *context) {
  struct access *access = context;
  store_durable(access->at, access->bytes, access->length);
}

static void do_flush(void *context) {
  struct access *access = context;
  cache_write_back(access->at, access->length);
  cache_fence();
}

static void do_invalidate(void *context) {
  struct access *access = context;
  cache_invalidate(access->at, access->length);
}

static void do_zero(void *context) {
  struct access *access = context;
  store_durable(access->at, NULL, access->length);
}

static void do_load(void *context) {
  struct access *access = context;
  access->value = __atomic_load_n((uint64_t *)(void *)access->at, __ATOMIC_ACQUIRE);
}

int window_look(uint32_t id, uint64_t offset, bool drop, uint64_t *value) {
  int error;
  struct access access = {.length = 8};
  struct window *window = acquire(id, offset, access.length, false, &error);
  if (window == NULL) return error;
  access.at = window->base + offset;
  if (drop) error = faultable_run(do_invalidate, &access);
  if (error == 0 && window->simulated) error = host_cache_load(access.at, access.length);
  if (error == 0) error = faultable_run(do_load, &access);
  window_release(id);
  *value = access.value;
  return error;
}

static void do_store(void *context) {
  struct access *access = context;
  __atomic_store_n((uint64_t *)(void *)access->at, access->value, __ATOMIC_RELEASE);
}

// Resolves, runs as a faultable call, releases; throws on failure.
static bool run(napi_env env, uint32_t id, uint64_t offset, bool write, struct access *access,
                void (*step)(void *), const char *name) {
  int error;
  struct window *window = acquire(id, offset, access->length, write, &error);
  if (window != NULL) {
    access->at = window->base + offset;
    if (window->simulated && step != do_flush && step != do_invalidate)
      error = host_cache_load(access->at, access->length);
    if (error == 0 && step == do_copy_out) error = window_refresh(id, access->at, access->length);
    if (error == 0) error = faultable_run(step, access);
    window_release(id);
  }
  if (error != 0) throw_errno(env, error, name);
  return error == 0;
}

static napi_value copy_call(napi_env env, napi_callback_info info, bool write, void (*step)(void *),
                            const char *name) {
  napi_value values[MAX_ARGUMENTS];
  uint32_t id;
  uint64_t offset;
  struct access access = {0};
  if (read_arguments(env, info, 3, values) && arg_u32(env, values[0], &id) && arg_u64(env, values[1], &offset) &&
      arg_bytes(env, values[2], &access.bytes, &access.length))
    run(env, id, offset, write, &access, step, name);
  return NULL;
}

static napi_value copy_out(napi_env env, napi_callback_info info) {
  return copy_call(env, info, false, do_copy_out, "copyOut");
}

static napi_value copy_in(napi_env env, napi_callback_info info) {
  napi_value values[MAX_ARGUMENTS];
  uint32_t id;
  uint64_t offset;
  uint8_t *bytes;
  size_t length;
  if (!read_arguments(env, info, 3, values) || !arg_u32(env, values[0], &id) || !arg_u64(env, values[1], &offset) ||
      !arg_bytes(env, values[2], &bytes, &length))
    return NULL;
  int error = window_store(id, offset, bytes, length);
  return error != 0 ? throw_errno(env, error, "copyIn") : NULL;
}

static napi_value copy_in_durable(napi_env env, napi_callback_info info) {
  return copy_call(env, info, true, do_copy_in_durable, "copyInDurable");
}

static bool range_arguments(napi_env env, napi_callback_info info, uint32_t *id, uint64_t *offset,
                            uint64_t *length) {
  napi_value values[MAX_ARGUMENTS];
  return read_arguments(env, info, 3, values) && arg_u32(env, values[0], id) && arg_u64(env, values[1], offset) &&
         arg_u64(env, values[2], length);
}

static napi_value range_call(napi_env env, napi_callback_info info, bool write, void (*step)(void *),
                             const char *name) {
  uint32_t id;
  uint64_t offset, length;
  if (!range_arguments(env, info, &id, &offset, &length)) return NULL;
  struct access access = {.length = length};
  run(env, id, offset, write, &access, step, name);
  return NULL;
}

static napi_value flush(napi_env env, napi_callback_info info) {
  return range_call(env, info, false, do_flush, "flush");
}

static napi_value invalidate(napi_env env, napi_callback_info info) {
  return range_call(env, info, false, do_invalidate, "invalidate");
}

static napi_value zero(napi_env env, napi_callback_info info) {
  return range_call(env, info, true, do_zero, "zero");
}

static napi_value populate_call(napi_env env, napi_callback_info info) {
  uint32_t id;
  uint64_t offset, length;
  if (!range_arguments(env, info, &id, &offset, &length)) return NULL;
  int error = window_populate(id, offset, length);
  return error != 0 ? throw_errno(env, error, "populate") : NULL;
}

static napi_value forget_populated_call(napi_env env, napi_callback_info info) {
  uint32_t id;
  uint64_t offset, length;
  int error;
  if (!range_arguments(env, info, &id, &offset, &length)) return NULL;
  struct window *window = acquire(id, offset, length, false, &error);
  if (window == NULL) return throw_errno(env, error, "forgetPopulated");
  forget_populated(window, offset, length);
  window_release(id);
  return NULL;
}

static napi_value load64(napi_env env, napi_callback_info info) {
  napi_value values[MAX_ARGUMENTS], result;
  uint32_t id;
  uint64_t offset;
  if (!read_arguments(env, info, 2, values) || !arg_u32(env, values[0], &id) || !arg_u64(env, values[1], &offset))
    return NULL;
  if (offset % 8 != 0) return throw_errno(env, EINVAL, "load64");
  struct access access = {.length = 8};
  if (!run(env, id, offset, false, &access, do_load, "load64")) return NULL;
  napi_create_bigint_uint64(env, access.value, &result);
  return result;
}

static napi_value store64(napi_env env, napi_callback_info info) {
  napi_value values[MAX_ARGUMENTS];
  uint32_t id;
  uint64_t offset;
  bool lossless;
  struct access access = {.length = 8};
  if (!read_arguments(env, info, 3, values) || !arg_u32(env, values[0], &id) || !arg_u64(env, values[1], &offset))
    return NULL;
  if (napi_get_value_bigint_uint64(env, values[2], &access.value, &lossless) != napi_ok || !lossless) {
    napi_throw_type_error(env, NULL, "argument must be a bigint of 64 bits");
    return NULL;
  }
  if (offset % 8 != 0) return throw_errno(env, EINVAL, "store64");
  run(env, id, offset, true, &access, do_store, "store64");
  return NULL;
}

static napi_value reported_bad_call(napi_env env, napi_callback_info info) {
  napi_value values[MAX_ARGUMENTS];
  uint32_t id;
  uint64_t offset;
  int error;
  if (!read_arguments(env, info, 1, values) || !arg_u32(env, values[0], &id)) return NULL;
  struct window *window = acquire(id, 0, 0, false, &error);
  if (window == NULL) return throw_errno(env, error, "reportedBad");
  bool is_bad = reported_bad(window->base, window->length, &offset);
  window_release(id);
  return is_bad ? make_number(env, (double)offset) : make_undefined(env);
}

void memory_register(napi_env env, napi_value exports) {
  fault_install();
  cache_choose_instructions();
  export_function(env, exports, "windowMap", window_map);
  export_function(env, exports, "windowUnmap", window_unmap);
  export_function(env, exports, "copyOut", copy_out);
  export_function(env, exports, "copyIn", copy_in);
  export_function(env, exports, "copyInDurable", copy_in_durable);
  export_function(env, exports, "flush", flush);
  export_function(env, exports, "invalidate", invalidate);
  export_function(env, exports, "zero", zero);
  export_function(env, exports, "load64", load64);
  export_function(env, exports, "store64", store64);
  export_function(env, exports, "populate", populate_call);
  export_function(env, exports, "forgetPopulated", forget_populated_call);
  export_function(env, exports, "reportedBad", reported_bad_call);
}
