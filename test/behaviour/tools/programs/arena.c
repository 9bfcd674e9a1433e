/* Creates an arena, keeps it open for longer than a seal takes, and lets other processes use it meanwhile. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (16u << 20)
#define CHECK(condition)                                              \
  do {                                                                \
    if (!(condition)) {                                               \
      fprintf(stderr, "line %d: " #condition ": ", __LINE__);         \
      perror("");                                                     \
      exit(1);                                                        \
    }                                                                 \
  } while (0)

static volatile uint32_t *map(int fd) {
  void *area = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(area != MAP_FAILED);
  return area;
}

/* A process that did not create the arena: opens it by name, finds word 0, leaves word 1. */
static void other(const char *path, uint32_t round) {
  int fd = open(path, O_RDWR);
  CHECK(fd >= 0);
  volatile uint32_t *area = map(fd);
  CHECK(area[0] == round);
  area[SIZE / 8] = round + 1;
  _exit(0);
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  int fd = open(argv[1], O_RDWR | O_CREAT | O_EXCL, 0600);
  CHECK(fd >= 0);
  CHECK(ftruncate(fd, SIZE) == 0);
  volatile uint32_t *area = map(fd);
  for (size_t i = 0; i < SIZE / 4; i += 1024) CHECK(area[i] == 0);
  for (uint32_t round = 1; round <= 3; round++) {
    area[0] = round;
    pid_t pid = fork();
    if (pid == 0) other(argv[1], round);
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    CHECK(area[SIZE / 8] == round + 1);
    /* It seals while it is mapped: nothing changes for us. */
    usleep(1100 * 1000);
  }
  CHECK(msync((void *)area, SIZE, MS_SYNC) == 0);
  uint32_t word;
  CHECK(pread(fd, &word, 4, SIZE / 2) == 4 && word == 4);
  return 0;
}
