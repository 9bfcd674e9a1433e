// See job.h. A job cannot be cancelled: callers stop waiting and clean up what it brings later.
#include "job.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

job *job_create(napi_env env) {
  job *self = calloc(1, sizeof *self);
  if (self == NULL) throw_errno(env, ENOMEM, "calloc");
  else self->fd = -1;
  return self;
}

void job_free(job *self) {
  if (self->fd >= 0) close(self->fd);
  for (int i = 0; i < JOB_STRINGS; i++) free(self->strings[i]);
  free(self);
}

static void job_settle(napi_env env, napi_value callback, void *context, void *data) {
  (void)callback;
  (void)context;
  job *self = data;
  if (env != NULL) {
    napi_value value;
    if (self->error == 0) {
      napi_resolve_deferred(env, self->deferred, self->result ? self->result(env, self) : make_undefined(env));
    } else {
      throw_errno(env, self->error, self->what);
      napi_get_and_clear_last_exception(env, &value);
      napi_reject_deferred(env, self->deferred, value);
    }
  }
  job_free(self);
}

static void *job_thread(void *data) {
  job *self = data;
  napi_threadsafe_function settle = self->settle;
  self->run(self);
  // After the environment is gone nobody takes the job: napi_closing.
  if (napi_call_threadsafe_function(settle, self, napi_tsfn_nonblocking) == napi_ok)
    napi_release_threadsafe_function(settle, napi_tsfn_release);
  else
    job_free(self);
  return NULL;
}

napi_value job_start(napi_env env, job *self, const char *what) {
  napi_value promise, name;
  self->what = what;
  napi_create_string_utf8(env, what, NAPI_AUTO_LENGTH, &name);
  if (napi_create_threadsafe_function(env, NULL, NULL, name, 0, 1, NULL, NULL, NULL, job_settle, &self->settle) !=
      napi_ok) {
    job_free(self);
    return throw_errno(env, ENOMEM, what);
  }
  napi_create_promise(env, &self->deferred, &promise);
  pthread_attr_t attributes;
  pthread_t thread;
  sigset_t all, before;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, 256 * 1024);
  sigfillset(&all);         // signals are for Node's threads,
  sigdelset(&all, SIGBUS);  // except the one the guard must see: blocked, it would end the process
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = pthread_create(&thread, &attributes, job_thread, self);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  if (error != 0) {
    napi_threadsafe_function settle = self->settle;
    self->error = error;
    self->what = "pthread_create";
    job_settle(env, NULL, NULL, self);
    napi_release_threadsafe_function(settle, napi_tsfn_abort);
  }
  return promise;
}
