// A thread that looks at words of windows again and again (the counters of logs, which other hosts raise) and says when
// one of them has changed: a timer of the event loop would look at each volume by itself, and JavaScript would run for
// every look in vain.
#include "addon.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define MAX_WORDS 4
// Where caches do not agree, each look drops a line and fetches it from the memory. All such looks together take at
// most one hundredth of the time: with more volumes, or slower memory, they come less often.
#define IDLE_SHARE 100
#define NS_PER_MS 1000000u
// Words that have not changed for a while are looked at every so often at most, and all but the first one of a watch
// only each fourth time: each look misses the caches (measured for two words of a hundred volumes: 20 to 35 us).
#define QUIET_AFTER_NS (1000 * (uint64_t)NS_PER_MS)
#define QUIET_INTERVAL_NS (3 * (uint64_t)NS_PER_MS)
#define QUIET_ROUNDS 4

struct watch {
  struct watch *next;
  uint32_t id;
  uint32_t window;
  bool coherent;
  uint32_t count;
  uint64_t offsets[MAX_WORDS];
  uint64_t seen[MAX_WORDS];
  bool echoes;
  uint64_t echo_at;
  bool bad; // the last look failed
  uint64_t interval_ns, due_ns, changed_ns;
  unsigned quiet_rounds;
  atomic_bool told; // and the event loop has not come to it yet
  napi_threadsafe_function tell;
};

// Watches are opened and closed by the threads of JavaScript, and looked at by the one thread, under the lock.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct watch *watches;
static uint32_t last_id;
static bool running;

static uint64_t clock_ns(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (uint64_t)t.tv_sec * 1000 * NS_PER_MS + (uint64_t)t.tv_nsec;
}

// Says what the first word is to who rang it, though JavaScript may be busy: this host lives. Memory that cannot be
// written, or not be read, says nothing.
static void echo(const struct watch *watch) {
  if (watch->echoes && !watch->bad) window_store(watch->window, watch->echo_at, &watch->seen[0], sizeof watch->seen[0]);
}

// True when something is new: another value, or memory that cannot be read any more, or again.
static bool look(struct watch *watch, uint32_t count) {
  bool news = false, bad = false;
  for (uint32_t i = 0; i < count; i++) {
    uint64_t value;
    if (window_look(watch->window, watch->offsets[i], !watch->coherent, &value) != 0) {
      bad = true;
      continue;
    }
    news = news || value != watch->seen[i];
    watch->seen[i] = value;
  }
  news = news || bad != watch->bad;
  watch->bad = bad;
  return news;
}

// Looks at all that are due, and returns when the next one is; 0 when there are none left.
static uint64_t look_at_all(void) {
  uint64_t start = clock_ns(CLOCK_MONOTONIC), next = 0, dropping_ns = 0;
  for (struct watch *watch = watches; watch != NULL; watch = watch->next) {
    if (watch->due_ns > start) continue;
    // What this thread itself took, not what it waited for a processor.
    uint64_t before = watch->coherent ? 0 : clock_ns(CLOCK_THREAD_CPUTIME_ID);
    bool quiet = start - watch->changed_ns > QUIET_AFTER_NS;
    if (look(watch, quiet && ++watch->quiet_rounds % QUIET_ROUNDS != 0 ? 1 : watch->count)) {
      watch->changed_ns = start;
      echo(watch);
      if (!atomic_exchange(&watch->told, true))
        napi_call_threadsafe_function(watch->tell, NULL, napi_tsfn_nonblocking);
    }
    if (!watch->coherent) dropping_ns += clock_ns(CLOCK_THREAD_CPUTIME_ID) - before;
    uint64_t interval = watch->interval_ns;
    if (quiet && interval < QUIET_INTERVAL_NS) interval = QUIET_INTERVAL_NS;
    // Multiples of the interval: watches of one interval are looked at in one go.
    watch->due_ns = (start / interval + 1) * interval;
  }
  for (struct watch *watch = watches; watch != NULL; watch = watch->next) {
    uint64_t earliest = start + IDLE_SHARE * dropping_ns;
    if (!watch->coherent && watch->due_ns < earliest) watch->due_ns = earliest;
    if (next == 0 || watch->due_ns < next) next = watch->due_ns;
  }
  return next;
}

static void *run(void *argument) {
  (void)argument;
  pthread_mutex_lock(&lock);
  for (uint64_t next; (next = look_at_all()) != 0;) {
    pthread_mutex_unlock(&lock);
    const struct timespec until = {.tv_sec = (time_t)(next / (1000 * NS_PER_MS)),
                                   .tv_nsec = (long)(next % (1000 * NS_PER_MS))};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    pthread_mutex_lock(&lock);
  }
  running = false;
  pthread_mutex_unlock(&lock);
  return NULL;
}

// Called with the lock held.
static int start(void) {
  if (running) return 0;
  pthread_attr_t attributes;
  pthread_t thread;
  sigset_t all, before;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, 128 * 1024);
  sigfillset(&all);        // signals are for Node's threads,
  sigdelset(&all, SIGBUS); // except the one that the SIGBUS handler must see
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = pthread_create(&thread, &attributes, run, NULL);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  running = error == 0;
  return error;
}

static void tell(napi_env env, napi_value callback, void *context, void *data) {
  (void)data;
  struct watch *watch = context;
  if (env == NULL) return;
  atomic_store(&watch->told, false); // what changes from here on is told again
  napi_value undefined;
  napi_get_undefined(env, &undefined);
  napi_call_function(env, undefined, callback, 0, NULL, NULL);
}

static void forget(napi_env env, void *data, void *hint) {
  (void)env, (void)hint;
  free(data);
}

// Unlinks the watch, so that the thread knows it no more.
static struct watch *take(uint32_t id) {
  pthread_mutex_lock(&lock);
  struct watch **link = &watches;
  while (*link != NULL && (*link)->id != id) link = &(*link)->next;
  struct watch *watch = *link;
  if (watch != NULL) *link = watch->next;
  pthread_mutex_unlock(&lock);
  return watch;
}

static void close_at_exit(void *data) {
  struct watch *watch = take((uint32_t)(uintptr_t)data);
  if (watch != NULL) napi_release_threadsafe_function(watch->tell, napi_tsfn_abort);
}

static bool read_offsets(napi_env env, napi_value value, struct watch *watch) {
  napi_typedarray_type type;
  size_t length;
  void *data;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, NULL, NULL) != napi_ok ||
      type != napi_float64_array || length == 0 || length > MAX_WORDS)
    return false;
  watch->count = (uint32_t)length;
  for (size_t i = 0; i < length; i++) watch->offsets[i] = (uint64_t)((double *)data)[i];
  return true;
}

// watchOpen(window, offsets: Float64Array, intervalMs, coherent, onNews, echoAt): watch; echoAt: -1 for none
static napi_value watch_open(napi_env env, napi_callback_info info) {
  napi_value values[MAX_ARGUMENTS], name;
  struct watch *watch = calloc(1, sizeof *watch);
  uint64_t interval_ms;
  double echo_at;
  if (watch == NULL) return throw_errno(env, ENOMEM, "watchOpen");
  if (!read_arguments(env, info, 6, values) || !arg_u32(env, values[0], &watch->window) ||
      !arg_u64(env, values[2], &interval_ms) || !arg_bool(env, values[3], &watch->coherent) ||
      napi_get_value_double(env, values[5], &echo_at) != napi_ok) {
    free(watch);
    return NULL;
  }
  napi_create_string_utf8(env, "famfs-watch", NAPI_AUTO_LENGTH, &name);
  if (interval_ms == 0 || !read_offsets(env, values[1], watch) ||
      napi_create_threadsafe_function(env, values[4], NULL, name, 0, 1, watch, forget, watch, tell, &watch->tell) !=
          napi_ok) {
    free(watch);
    return throw_errno(env, EINVAL, "watchOpen");
  }
  napi_unref_threadsafe_function(env, watch->tell); // does not keep the event loop alive
  watch->interval_ns = interval_ms * NS_PER_MS;
  watch->echoes = echo_at >= 0;
  if (watch->echoes) watch->echo_at = (uint64_t)echo_at;
  look(watch, watch->count); // what is there now is no news
  pthread_mutex_lock(&lock);
  watch->id = ++last_id;
  uint32_t id = watch->id;
  watch->next = watches;
  watches = watch;
  int error = start();
  pthread_mutex_unlock(&lock);
  napi_add_env_cleanup_hook(env, close_at_exit, (void *)(uintptr_t)id);
  if (error == 0) return make_u32(env, id);
  napi_remove_env_cleanup_hook(env, close_at_exit, (void *)(uintptr_t)id);
  close_at_exit((void *)(uintptr_t)id);
  return throw_errno(env, error, "pthread_create");
}

// watchClose(watch)
static napi_value watch_close(napi_env env, napi_callback_info info) {
  napi_value values[MAX_ARGUMENTS];
  uint32_t id;
  if (!read_arguments(env, info, 1, values) || !arg_u32(env, values[0], &id)) return NULL;
  napi_remove_env_cleanup_hook(env, close_at_exit, (void *)(uintptr_t)id);
  close_at_exit((void *)(uintptr_t)id);
  return NULL;
}

void watch_register(napi_env env, napi_value exports) {
  export_function(env, exports, "watchOpen", watch_open);
  export_function(env, exports, "watchClose", watch_close);
}
