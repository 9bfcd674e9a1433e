// Simulated hosts whose caches do not agree, for tests: a simulated device that is opened with `caches=HOST` is seen
// through the caches of that host. What it stores reaches the memory when it is written back, what it has loaded stays
// as it was until it is invalidated, both in lines of 64 bytes, and nothing is ever evicted: the memory that hides the
// most. (A test that wants an eviction flushes the whole window.) All windows of one process on one file with one name
// are one host, also one after the other. Another process is another host.
#include "addon.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <errno.h>

#define PAGE UINT64_C(4096) // loaded as a whole at the first access
#define LINE UINT64_C(64)
#define MAX_NAME 32

struct host_cache {
  struct host_cache *next;
  dev_t device;
  ino_t file;
  char name[MAX_NAME];
  uint64_t length;
  char *memory; // the file, which all hosts share
  char *cached; // what this host sees
  char *clean;  // `cached` as it was loaded or written back: a line that differs is dirty
  uint8_t *loaded;
};

// Caches stay until the process ends, as those of a host do. Lines move under the lock, so that each moves as a whole.
static _Atomic(struct host_cache *) caches;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static char *reserve(uint64_t length) {
  char *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? NULL : at;
}

static int create(int fd, const char *name, const struct stat *status, struct host_cache **out) {
  struct host_cache *cache = calloc(1, sizeof *cache);
  if (cache == NULL) return ENOMEM;
  *cache = (struct host_cache){.device = status->st_dev, .file = status->st_ino};
  strcpy(cache->name, name);
  cache->length = (uint64_t)status->st_size;
  cache->loaded = calloc(cache->length / PAGE + 1, 1);
  cache->cached = reserve(cache->length);
  cache->clean = reserve(cache->length);
  cache->memory = mmap(NULL, cache->length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  int error = cache->memory == MAP_FAILED ? errno : 0;
  if (error == 0 && cache->loaded != NULL && cache->cached != NULL && cache->clean != NULL) {
    *out = cache;
    return 0;
  }
  if (error == 0) munmap(cache->memory, cache->length);
  if (cache->cached != NULL) munmap(cache->cached, cache->length);
  if (cache->clean != NULL) munmap(cache->clean, cache->length);
  free(cache->loaded);
  free(cache);
  return error != 0 ? error : ENOMEM;
}

int host_cache_map(int fd, const char *name, uint64_t offset, uint64_t length, char **base) {
  struct stat status;
  if (strlen(name) >= MAX_NAME) return EINVAL;
  if (fstat(fd, &status) < 0) return errno;
  if (!S_ISREG(status.st_mode)) return ENOTSUP;
  if (offset % PAGE != 0 || offset > (uint64_t)status.st_size || length > (uint64_t)status.st_size - offset)
    return EINVAL;
  int error = 0;
  pthread_mutex_lock(&lock);
  struct host_cache *cache = atomic_load(&caches);
  while (cache != NULL && (cache->device != status.st_dev || cache->file != status.st_ino ||
                           cache->length != (uint64_t)status.st_size || strcmp(cache->name, name) != 0))
    cache = cache->next;
  if (cache == NULL && (error = create(fd, name, &status, &cache)) == 0) {
    cache->next = atomic_load(&caches);
    atomic_store(&caches, cache);
  }
  pthread_mutex_unlock(&lock);
  if (error == 0) *base = cache->cached + offset;
  return error;
}

static struct host_cache *cache_of(const void *at) {
  struct host_cache *cache = atomic_load_explicit(&caches, memory_order_acquire);
  while (cache != NULL && !((const char *)at >= cache->cached && (const char *)at < cache->cached + cache->length))
    cache = cache->next;
  return cache;
}

bool host_cache_has(const void *at) { return cache_of(at) != NULL; }

int host_cache_load(const void *from, uint64_t length) {
  struct host_cache *cache = cache_of(from);
  if (cache == NULL || length == 0) return 0;
  uint64_t start = (uint64_t)((const char *)from - cache->cached), end = start + length;
  int error = 0;
  pthread_mutex_lock(&lock);
  for (uint64_t page = start / PAGE; page <= (end - 1) / PAGE && error == 0; page++) {
    if (cache->loaded[page]) continue;
    uint64_t at = page * PAGE, bytes = cache->length - at < PAGE ? cache->length - at : PAGE;
    error = faultable_copy(cache->clean + at, cache->memory + at, bytes);
    memcpy(cache->cached + at, cache->clean + at, bytes);
    cache->loaded[page] = error == 0;
  }
  pthread_mutex_unlock(&lock);
  return error;
}

// Called in a faultable call of the caller, which must not leave while the lock is held.
static void for_lines(const void *from, uint64_t length, int (*each)(struct host_cache *cache, uint64_t at)) {
  struct host_cache *cache = cache_of(from);
  if (cache == NULL || length == 0) return;
  uint64_t start = (uint64_t)((const char *)from - cache->cached), end = start + length;
  int error = 0;
  uint64_t at = start - start % LINE;
  pthread_mutex_lock(&lock);
  while (at < end && error == 0) {
    if (!cache->loaded[at / PAGE]) at += PAGE - at % PAGE;
    else if ((error = each(cache, at)) == 0) at += LINE;
  }
  pthread_mutex_unlock(&lock);
  if (error != 0) (void)*(volatile char *)(cache->memory + at); // the SIGBUS handler of the caller shall see it
}

static int write_back(struct host_cache *cache, uint64_t at) {
  if (memcmp(cache->cached + at, cache->clean + at, LINE) == 0) return 0;
  memcpy(cache->clean + at, cache->cached + at, LINE);
  return faultable_copy(cache->memory + at, cache->clean + at, LINE);
}

static int reload(struct host_cache *cache, uint64_t at) {
  int error = write_back(cache, at);
  if (error == 0) error = faultable_copy(cache->clean + at, cache->memory + at, LINE);
  memcpy(cache->cached + at, cache->clean + at, LINE);
  return error;
}

static int discard(struct host_cache *cache, uint64_t at) {
  cache->loaded[at / PAGE] = 0;
  return 0;
}

void host_cache_write_back(const void *from, uint64_t length) { for_lines(from, length, write_back); }

void host_cache_invalidate(const void *from, uint64_t length) { for_lines(from, length, reload); }

void host_cache_discard(const void *from, uint64_t length) { for_lines(from, length, discard); }
