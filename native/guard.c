// The SIGBUS guard: an access to a mapping that the kernel cannot serve (truncated file, poisoned memory) ends the
// guarded call with EIO instead of the process.
#include "addon.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

// initial-exec: the handler must not allocate, which the default model may do at a thread's first access.
static __thread sigjmp_buf *volatile guard_target __attribute__((tls_model("initial-exec")));
static struct sigaction former_action;

static void on_sigbus(int signal, siginfo_t *info, void *context) {
  if (guard_target != NULL && info->si_code != BUS_MCEERR_AO) siglongjmp(*guard_target, 1);
  // Not ours: what would have happened without us.
  if (former_action.sa_flags & SA_SIGINFO) {
    former_action.sa_sigaction(signal, info, context);
  } else if (former_action.sa_handler != SIG_DFL && former_action.sa_handler != SIG_IGN) {
    former_action.sa_handler(signal);
  } else {
    // Ignoring a fault would repeat it for ever; the default action comes with the repeated access.
    struct sigaction deadly = {.sa_handler = SIG_DFL};
    sigaction(SIGBUS, &deadly, NULL);
    if (info->si_code <= 0 || info->si_code == BUS_MCEERR_AO) raise(signal);
  }
}

static void install(void) {
  // SA_NODEFER: leaving by siglongjmp restores no signal mask, which saves two system calls per guarded access.
  struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, &former_action);
}

void guard_install(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;  // every worker thread loads the addon again
  pthread_once(&once, install);
}

int guarded_run(void (*access)(void *), void *context) {
  sigjmp_buf here;
  sigjmp_buf *volatile outer = guard_target;
  if (sigsetjmp(here, 0) != 0) {
    guard_target = outer;
    return EIO;
  }
  guard_target = &here;
  atomic_signal_fence(memory_order_seq_cst);
  access(context);
  atomic_signal_fence(memory_order_seq_cst);
  guard_target = outer;
  return 0;
}

struct copy {
  void *to;
  const void *from;
  size_t length;
};

static void do_copy(void *context) {
  struct copy *copy = context;
  memcpy(copy->to, copy->from, copy->length);
}

int guarded_copy(void *to, const void *from, size_t length) {
  struct copy copy = {to, from, length};
  return guarded_run(do_copy, &copy);
}
