/* Measures what several mounts of one volume do to each other, from inside one process.
 *
 *   contend seen WRITER READER ROUNDS        milliseconds from the call that seals a new file in WRITER to its name in
 *                                            READER, one line each
 *   contend turns ROUNDS DIRECTORY...        opens DIRECTORY/turns for write, writes and closes in one directory after
 *                                            the other: milliseconds that each open took, one line each
 *   contend race MILLISECONDS DIRECTORY...   a thread per directory opens DIRECTORY/turns for write, writes and closes,
 *                                            again and again: "handover MILLISECONDS" from the last close of another to
 *                                            an open, "opens N" of each thread, "refused N" in all
 *   contend create MILLISECONDS DIRECTORY... a thread per directory makes, writes, closes and removes files of its own:
 *                                            "rate N" files per second of all together, "refused N"
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define MAX_THREADS 16
/* How long after a new name is looked for again: the look must not take the processor from the servers. */
#define LOOK_NS 100000

static char block[4096];

static void fail(const char *what) {
  fprintf(stderr, "contend: %s: %s\n", what, strerror(errno));
  exit(1);
}

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Makes a file that is in the log when this returns. (RELEASE comes after close has returned, so fsync of the directory
 * may come too early for the file to be sealed.) */
static void put_sealed(int directory, const char *name) {
  const int fd = openat(directory, name, O_WRONLY | O_CREAT | O_EXCL, 0644);
  if (fd < 0 || write(fd, block, sizeof block) != (ssize_t)sizeof block) fail(name);
  if (fsetxattr(fd, "user.famfs.seal", "1", 1, 0) != 0) fail("setxattr");
  close(fd);
}

static int open_directory(const char *path) {
  const int fd = open(path, O_RDONLY | O_DIRECTORY);
  if (fd < 0) fail(path);
  return fd;
}

static void measure_seen(const char *writer_path, const char *reader_path, long rounds) {
  const int writer = open_directory(writer_path), reader = open_directory(reader_path);
  for (long round = 0; round < rounds; round++) {
    char name[64];
    snprintf(name, sizeof name, "seen-%d-%ld", getpid(), round);
    faccessat(reader, name, F_OK, 0); /* the reader's kernel may remember that it is not there */
    put_sealed(writer, name);
    const double start = now_ms();
    while (faccessat(reader, name, F_OK, 0) != 0) {
      if (now_ms() - start > 10000) fail("not seen after 10 s");
      nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
    }
    printf("%.3f\n", now_ms() - start);
  }
}

static void measure_turns(long rounds, int count, char **paths) {
  int directories[MAX_THREADS];
  if (count > MAX_THREADS) count = MAX_THREADS;
  for (int i = 0; i < count; i++) directories[i] = open_directory(paths[i]);
  for (long turn = 0; turn < rounds * count; turn++) {
    const double start = now_ms();
    int fd;
    while ((fd = openat(directories[turn % count], "turns", O_WRONLY)) < 0)
      if (errno != EAGAIN && errno != EIO) fail("open");
    printf("%.3f\n", now_ms() - start);
    if (pwrite(fd, block, sizeof block, 0) != (ssize_t)sizeof block) fail("write");
    if (close(fd) != 0) fail("close");
  }
}

struct contender {
  int index;
  int directory;
  double until;
  uint64_t done;
  uint64_t refused;
};

/* What a contender may be told: that it must wait longer, or that its ownership was lost. */
static void count_refusal(struct contender *self, const char *what) {
  if (errno != EAGAIN && errno != EIO && errno != ESTALE) fail(what);
  self->refused++;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int last_closer = -1;
static double last_close;

static void *race(void *argument) {
  struct contender *self = argument;
  while (now_ms() < self->until) {
    const int fd = openat(self->directory, "turns", O_WRONLY);
    if (fd < 0) {
      count_refusal(self, "open");
      continue;
    }
    const double opened = now_ms();
    pthread_mutex_lock(&lock);
    if (last_closer >= 0 && last_closer != self->index) printf("handover %.3f\n", opened - last_close);
    pthread_mutex_unlock(&lock);
    if (pwrite(fd, block, sizeof block, 0) != (ssize_t)sizeof block) count_refusal(self, "write");
    pthread_mutex_lock(&lock);
    last_closer = self->index;
    last_close = now_ms();
    pthread_mutex_unlock(&lock);
    if (close(fd) != 0) count_refusal(self, "close");
    self->done++;
  }
  return NULL;
}

static void *make_files(void *argument) {
  struct contender *self = argument;
  for (uint64_t i = 0; now_ms() < self->until; i++) {
    char name[64];
    snprintf(name, sizeof name, "busy-%d-%lu", self->index, i);
    const int fd = openat(self->directory, name, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (fd < 0) {
      count_refusal(self, "create");
      continue;
    }
    if (write(fd, block, sizeof block) != (ssize_t)sizeof block) count_refusal(self, "write");
    if (close(fd) != 0) count_refusal(self, "close");
    while (unlinkat(self->directory, name, 0) != 0) {
      if (errno == ENOENT) break; /* lost with the ownership */
      count_refusal(self, "unlink");
    }
    self->done++;
  }
  return NULL;
}

static void contend(void *(*work)(void *), double milliseconds, int count, char **paths) {
  struct contender all[MAX_THREADS] = {0};
  pthread_t ids[MAX_THREADS];
  if (count > MAX_THREADS) count = MAX_THREADS;
  const double start = now_ms();
  for (int i = 0; i < count; i++) {
    all[i] = (struct contender){.index = i, .directory = open_directory(paths[i]), .until = start + milliseconds};
    if (pthread_create(&ids[i], NULL, work, &all[i]) != 0) fail("pthread_create");
  }
  uint64_t done = 0, refused = 0;
  for (int i = 0; i < count; i++) {
    pthread_join(ids[i], NULL);
    done += all[i].done;
    refused += all[i].refused;
    printf("opens %lu\n", all[i].done);
  }
  printf("rate %.1f\nrefused %lu\n", (double)done * 1e3 / (now_ms() - start), refused);
}

int main(int argc, char **argv) {
  memset(block, 0x5a, sizeof block);
  const char *what = argc > 1 ? argv[1] : "";
  if (argc == 5 && strcmp(what, "seen") == 0) {
    measure_seen(argv[2], argv[3], atol(argv[4]));
  } else if (argc > 3 && (strcmp(what, "turns") == 0 || strcmp(what, "race") == 0)) {
    const int first = open_directory(argv[3]);
    if (faccessat(first, "turns", F_OK, 0) != 0) put_sealed(first, "turns");
    usleep(200000); /* all the others have seen it */
    if (strcmp(what, "turns") == 0) measure_turns(atol(argv[2]), argc - 3, argv + 3);
    else contend(race, atof(argv[2]), argc - 3, argv + 3);
  } else if (argc > 3 && strcmp(what, "create") == 0) {
    contend(make_files, atof(argv[2]), argc - 3, argv + 3);
  } else {
    fprintf(stderr, "usage: see the head of contend.c\n");
    return 64;
  }
  return 0;
}
