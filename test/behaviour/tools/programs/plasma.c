/* As object stores do: the arena's name is gone before it has a size, and children inherit the descriptor. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (32u << 20)
#define CHECK(condition)                                              \
  do {                                                                \
    if (!(condition)) {                                               \
      fprintf(stderr, "line %d: " #condition ": ", __LINE__);         \
      perror("");                                                     \
      exit(1);                                                        \
    }                                                                 \
  } while (0)

int main(int argc, char **argv) {
  CHECK(argc == 2);
  char path[4096];
  snprintf(path, sizeof path, "%s/plasmaXXXXXX", argv[1]);
  int fd = mkstemp(path);
  CHECK(fd >= 0);
  CHECK(unlink(path) == 0);
  CHECK(ftruncate(fd, SIZE) == 0);
  uint64_t *area = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(area != MAP_FAILED);
  for (size_t i = 0; i < SIZE / 8; i++) area[i] = i * 2654435761u;
  sleep(2);
  pid_t pid = fork();
  if (pid == 0) {
    uint64_t *mine = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(mine != MAP_FAILED);
    for (size_t i = 0; i < SIZE / 8; i++) CHECK(mine[i] == i * 2654435761u);
    mine[5] = 5;
    _exit(0);
  }
  int status;
  CHECK(waitpid(pid, &status, 0) == pid && status == 0);
  CHECK(area[5] == 5);
  struct stat st;
  CHECK(fstat(fd, &st) == 0 && st.st_size == SIZE && st.st_nlink == 0);
  return 0;
}
