// The SIGBUS handler: an access to a mapping that the kernel cannot serve (truncated file, poisoned memory) ends the
// faultable call with EIO instead of the process.
#include "addon.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

// initial-exec: the handler must not allocate, which the default model may do at a thread's first access.
static __thread sigjmp_buf *volatile fault_target __attribute__((tls_model("initial-exec")));
static struct sigaction former_action;

// Addresses of memory that the kernel reported as bad before anybody accessed it; of many the last ones.
#define REPORTS 64u
static _Atomic uint32_t report_count;
static _Atomic uintptr_t reports[REPORTS];

static void on_sigbus(int signal, siginfo_t *info, void *context) {
  if (info->si_code == BUS_MCEERR_AO) {
    // Advice to every process that has the page mapped, where vm.memory_failure_early_kill is set. A thread that
    // reads the page gets a SIGBUS of its own, in a faultable call.
    uint32_t at = atomic_fetch_add_explicit(&report_count, 1, memory_order_relaxed);
    atomic_store_explicit(&reports[at % REPORTS], (uintptr_t)info->si_addr, memory_order_release);
    return;
  }
  if (fault_target != NULL) siglongjmp(*fault_target, 1);
  // Not ours: what would have happened without us.
  if (former_action.sa_flags & SA_SIGINFO) {
    former_action.sa_sigaction(signal, info, context);
  } else if (former_action.sa_handler != SIG_DFL && former_action.sa_handler != SIG_IGN) {
    former_action.sa_handler(signal);
  } else {
    // Ignoring a fault would repeat it for ever; the default action comes with the repeated access.
    struct sigaction deadly = {.sa_handler = SIG_DFL};
    sigaction(SIGBUS, &deadly, NULL);
    if (info->si_code <= 0) raise(signal);
  }
}

static void install(void) {
  // SA_NODEFER: leaving by siglongjmp restores no signal mask, which saves two system calls per faultable access.
  struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, &former_action);
}

void fault_install(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;  // every worker thread loads the addon again
  pthread_once(&once, install);
}

bool reported_bad(const void *base, uint64_t length, uint64_t *offset) {
  uint32_t count = atomic_load_explicit(&report_count, memory_order_relaxed);
  for (uint32_t at = 0; at < count && at < REPORTS; at++) {
    uintptr_t address = atomic_load_explicit(&reports[at], memory_order_acquire);
    if (address < (uintptr_t)base || address - (uintptr_t)base >= length) continue;
    *offset = address - (uintptr_t)base;
    return true;
  }
  return false;
}

int faultable_run(void (*access)(void *), void *context) {
  sigjmp_buf here;
  sigjmp_buf *volatile outer = fault_target;
  if (sigsetjmp(here, 0) != 0) {
    fault_target = outer;
    return EIO;
  }
  fault_target = &here;
  atomic_signal_fence(memory_order_seq_cst);
  access(context);
  atomic_signal_fence(memory_order_seq_cst);
  fault_target = outer;
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

int faultable_copy(void *to, const void *from, size_t length) {
  struct copy copy = {to, from, length};
  return faultable_run(do_copy, &copy);
}
