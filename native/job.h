// Calls that may take long or wait for somebody: each runs on a thread of its own and gives a promise. Never on libuv's
// pool: four hung calls there stop DNS and file I/O for everybody.
#ifndef FAMFS_JOB_H
#define FAMFS_JOB_H

#include "addon.h"

#include <sys/stat.h>
#include <sys/vfs.h>

#define JOB_STRINGS 4

typedef struct job {
  napi_deferred deferred;
  napi_threadsafe_function settle;
  void (*run)(struct job *);                     // on the job's thread; sets error
  napi_value (*result)(napi_env, struct job *);  // on the JavaScript thread, when error is 0
  const char *what;                              // the system call that failed, for the message
  int error;
  char *strings[JOB_STRINGS];
  uint64_t flags;
  // A range of a window, or of a file whose descriptor the job owns (-1: none).
  uint32_t window;
  int fd;
  uint64_t offset;
  uint64_t length;
  union {
    struct statfs statfs;
    struct stat stat;
  };
} job;

// A job with nothing in it; NULL after it has thrown.
job *job_create(napi_env env);
void job_free(job *self);
// Starts `self` (which it owns from now on) and returns its promise, or throws.
napi_value job_start(napi_env env, job *self, const char *what);

#endif
