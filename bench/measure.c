/* Measures one thing on one file system from inside one process, so that starting programs is no part of it.
 *
 *   measure read|write direct|cached FILE BLOCK MILLISECONDS THREADS     prints bytes per second
 *   measure map FILE MILLISECONDS                                        prints bytes per second
 *   measure stat|readdir DIRECTORY FILES MILLISECONDS                    prints operations (names) per second
 *   measure create DIRECTORY FILES                                       prints files per second
 *   measure first|touch FILE                                             prints bytes per second: all of it, once
 *   measure fsync FILE ROUNDS                                            prints milliseconds, one line each
 *
 * Blocks below 64 KiB go to random places, others one after the other. stat wants files named 0, 1, 2 ... in DIRECTORY.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what) {
  fprintf(stderr, "measure: %s: %s\n", what, strerror(errno));
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct transfer {
  int fd;
  int write;
  size_t block;
  uint64_t size;
  double until;
  uint64_t seed;
  uint64_t bytes;
};

static void *transfer(void *argument) {
  struct transfer *t = argument;
  char *buffer = aligned_alloc(4096, t->block);
  if (buffer == NULL) fail("memory");
  memset(buffer, 0x5a, t->block);
  const uint64_t blocks = t->size / t->block;
  uint64_t at = t->seed % blocks, x = t->seed * 2 + 1;
  /* The clock is read every few operations: it would be seen in the small ones. */
  const unsigned burst = t->block < 65536 ? 16 : 1;
  while (now() < t->until) {
    for (unsigned i = 0; i < burst; i++) {
      const off_t offset = (off_t)(at * t->block);
      const ssize_t n = t->write ? pwrite(t->fd, buffer, t->block, offset) : pread(t->fd, buffer, t->block, offset);
      if (n != (ssize_t)t->block) fail(t->write ? "pwrite" : "pread");
      if (burst == 1) {
        at = (at + 1) % blocks;
      } else {
        x = x * 6364136223846793005u + 1442695040888963407u;
        at = (x >> 33) % blocks;
      }
    }
    t->bytes += burst * t->block;
  }
  free(buffer);
  return NULL;
}

static double measure_transfer(int write, int direct, const char *path, size_t block, double seconds, int threads) {
  const int fd = open(path, (write ? O_RDWR : O_RDONLY) | (direct ? O_DIRECT : 0));
  struct stat st;
  if (fd < 0 || fstat(fd, &st) != 0) fail(path);
  struct transfer all[64] = {0};
  pthread_t ids[64];
  if (threads > 64) threads = 64;
  const double start = now();
  for (int i = 0; i < threads; i++) {
    all[i] = (struct transfer){fd, write, block, (uint64_t)st.st_size, start + seconds, (uint64_t)i * 7919, 0};
    if (pthread_create(&ids[i], NULL, transfer, &all[i]) != 0) fail("pthread_create");
  }
  uint64_t bytes = 0;
  for (int i = 0; i < threads; i++) {
    pthread_join(ids[i], NULL);
    bytes += all[i].bytes;
  }
  const double taken = now() - start;
  close(fd);
  return (double)bytes / taken;
}

static double measure_map(const char *path, double seconds) {
  const int fd = open(path, O_RDONLY);
  struct stat st;
  if (fd < 0 || fstat(fd, &st) != 0) fail(path);
  const size_t size = (size_t)st.st_size;
  uint64_t bytes = 0;
  volatile uint64_t sink = 0;
  const double start = now();
  do {
    const uint64_t *words = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (words == MAP_FAILED) fail("mmap");
    uint64_t sum = 0;
    for (size_t i = 0; i < size / 8; i++) sum += words[i];
    sink += sum;
    munmap((void *)words, size);
    bytes += size;
  } while (now() - start < seconds);
  const double taken = now() - start;
  close(fd);
  return (double)bytes / taken;
}

static double measure_stat(const char *directory, long files, double seconds) {
  const int dir = open(directory, O_RDONLY | O_DIRECTORY);
  if (dir < 0) fail(directory);
  uint64_t count = 0;
  const double start = now();
  do {
    for (long i = 0; i < files; i++) {
      char name[32];
      struct stat st;
      snprintf(name, sizeof name, "%ld", i);
      if (fstatat(dir, name, &st, 0) != 0) fail(name);
    }
    count += (uint64_t)files;
  } while (now() - start < seconds);
  const double taken = now() - start;
  close(dir);
  return (double)count / taken;
}

static double measure_readdir(const char *directory, long files, double seconds) {
  uint64_t count = 0;
  const double start = now();
  do {
    DIR *dir = opendir(directory);
    if (dir == NULL) fail(directory);
    long seen = 0;
    while (readdir(dir) != NULL) seen++;
    closedir(dir);
    if (seen < files) {
      fprintf(stderr, "measure: %s has %ld names, expected %ld\n", directory, seen, files);
      exit(1);
    }
    count += (uint64_t)seen;
  } while (now() - start < seconds);
  return (double)count / (now() - start);
}

static double measure_create(const char *directory, long files) {
  const int dir = open(directory, O_RDONLY | O_DIRECTORY);
  if (dir < 0) fail(directory);
  char block[4096], name[32];
  memset(block, 0x5a, sizeof block);
  const double start = now();
  for (long i = 0; i < files; i++) {
    snprintf(name, sizeof name, "new-%ld", i);
    const int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (fd < 0) fail(name);
    if (write(fd, block, sizeof block) != (ssize_t)sizeof block) fail("write");
    if (close(fd) != 0) fail("close");
  }
  const double taken = now() - start;
  for (long i = 0; i < files; i++) {
    snprintf(name, sizeof name, "new-%ld", i);
    if (unlinkat(dir, name, 0) != 0) fail("unlink");
  }
  close(dir);
  return (double)files / taken;
}

/* Once from start to end, by read, or by one look at each page of a mapping. */
static double measure_first(const char *path, int touch) {
  const int fd = open(path, O_RDONLY);
  struct stat st;
  if (fd < 0 || fstat(fd, &st) != 0) fail(path);
  const size_t size = (size_t)st.st_size, block = 1 << 20;
  /* What this kernel has of it in its page cache goes; the memory of a file system in memory stays. */
  if (posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0) fail("posix_fadvise");
  volatile uint64_t sink = 0;
  char *buffer = malloc(block);
  if (buffer == NULL) fail("memory");
  memset(buffer, 0, block);
  const double start = now();
  if (touch) {
    const char *at = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) fail("mmap");
    uint64_t sum = 0;
    for (size_t i = 0; i < size; i += 4096) sum += (unsigned char)at[i];
    sink += sum;
    munmap((void *)at, size);
  } else {
    for (ssize_t n; (n = read(fd, buffer, block)) != 0;)
      if (n < 0) fail("read");
  }
  const double taken = now() - start;
  free(buffer);
  close(fd);
  return (double)size / taken;
}

/* fsync after 4 KiB written at a place that moves. */
static void measure_fsync(const char *path, long rounds) {
  const int fd = open(path, O_RDWR);
  struct stat st;
  if (fd < 0 || fstat(fd, &st) != 0) fail(path);
  char block[4096];
  memset(block, 0x5b, sizeof block);
  const off_t blocks = st.st_size / (off_t)sizeof block;
  for (long i = 0; i < rounds; i++) {
    const off_t offset = (i * 7919) % blocks * (off_t)sizeof block;
    if (pwrite(fd, block, sizeof block, offset) != (ssize_t)sizeof block) fail("pwrite");
    const double start = now();
    if (fsync(fd) != 0) fail("fsync");
    printf("%.4f\n", (now() - start) * 1e3);
  }
  close(fd);
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  double result;
  if (argc == 7 && (strcmp(what, "read") == 0 || strcmp(what, "write") == 0)) {
    result = measure_transfer(strcmp(what, "write") == 0, strcmp(argv[2], "direct") == 0, argv[3],
                              strtoul(argv[4], NULL, 10), atof(argv[5]) / 1e3, atoi(argv[6]));
  } else if (argc == 4 && strcmp(what, "map") == 0) {
    result = measure_map(argv[2], atof(argv[3]) / 1e3);
  } else if (argc == 5 && strcmp(what, "stat") == 0) {
    result = measure_stat(argv[2], atol(argv[3]), atof(argv[4]) / 1e3);
  } else if (argc == 5 && strcmp(what, "readdir") == 0) {
    result = measure_readdir(argv[2], atol(argv[3]), atof(argv[4]) / 1e3);
  } else if (argc == 4 && strcmp(what, "create") == 0) {
    result = measure_create(argv[2], atol(argv[3]));
  } else if (argc == 3 && (strcmp(what, "first") == 0 || strcmp(what, "touch") == 0)) {
    result = measure_first(argv[2], strcmp(what, "touch") == 0);
  } else if (argc == 4 && strcmp(what, "fsync") == 0) {
    measure_fsync(argv[2], atol(argv[3]));
    return 0;
  } else {
    fprintf(stderr, "usage: see the head of measure.c\n");
    return 64;
  }
  printf("%.0f\n", result);
  return 0;
}
