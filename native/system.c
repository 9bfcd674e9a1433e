// Mounts and descriptors. A call that may wait for a file system server runs on a thread of its own and gives a
// promise; it cannot be cancelled, so callers stop waiting and clean up what it brings later.
#include "job.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

// glibc's <sys/mount.h> and <linux/mount.h> exclude each other; mount(2) and umount2(2) are all we need of it.
int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data);
int umount2(const char *target, int flags);

// A job whose first `count` arguments are strings and, when `with_flags`, whose next one is a number.
static job *job_from_arguments(napi_env env, napi_callback_info info, size_t count, bool with_flags) {
  napi_value argv[JOB_STRINGS + 1];
  size_t argc = count + (with_flags ? 1 : 0);
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  job *self = job_create(env);
  if (self == NULL) return NULL;
  for (size_t i = 0; i < count; i++) {
    if (!arg_string(env, argv[i], &self->strings[i])) {
      job_free(self);
      return NULL;
    }
  }
  if (with_flags && !arg_u64(env, argv[count], &self->flags)) {
    job_free(self);
    return NULL;
  }
  return self;
}

// ---- mounts ----

static void run_mount(job *self) {
  char **text = self->strings;
  self->error = mount(text[0], text[1], text[2], self->flags, text[3]) == 0 ? 0 : errno;
}

static napi_value system_mount(napi_env env, napi_callback_info info) {
  job *self = job_from_arguments(env, info, 4, true);
  if (self == NULL) return NULL;
  self->run = run_mount;
  return job_start(env, self, "mount");
}

static void run_unmount(job *self) {
  self->error = umount2(self->strings[0], (int)self->flags) == 0 ? 0 : errno;
}

static napi_value system_unmount(napi_env env, napi_callback_info info) {
  job *self = job_from_arguments(env, info, 1, true);
  if (self == NULL) return NULL;
  self->run = run_unmount;
  return job_start(env, self, "umount2");
}

// Attributes are set while nobody sees the clone: a later remount in this mount namespace would not reach the peers of
// the target's mount (design 6). The clone of a shared mount is its peer: what is mounted over one bind of a volume
// would appear over all of them, read-only ones included, so it leaves that group first. It gets one of its own where
// it is attached to something shared.
static void run_bind_mount(job *self) {
  struct mount_attr attributes = {.attr_set = self->flags, .propagation = MS_PRIVATE};
  // The access time setting is one field, not a bit: it is set only after it was cleared.
  if ((self->flags & MOUNT_ATTR__ATIME) != 0) attributes.attr_clr = MOUNT_ATTR__ATIME;
  self->what = "open_tree";
  int tree = (int)syscall(SYS_open_tree, AT_FDCWD, self->strings[0], OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  if (tree < 0) {
    self->error = errno;
    return;
  }
  self->what = "mount_setattr";
  if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0) {
    self->error = errno;
    close(tree);
    return;
  }
  self->what = "move_mount";
  if (syscall(SYS_move_mount, tree, "", AT_FDCWD, self->strings[1], MOVE_MOUNT_F_EMPTY_PATH) != 0)
    self->error = errno;
  close(tree);
}

static napi_value system_bind_mount(napi_env env, napi_callback_info info) {
  job *self = job_from_arguments(env, info, 2, true);
  if (self == NULL) return NULL;
  self->run = run_bind_mount;
  return job_start(env, self, "open_tree");
}

// ---- questions to a file system ----

static void set_number(napi_env env, napi_value object, const char *name, double value) {
  napi_set_named_property(env, object, name, make_number(env, value));
}

static void run_statfs(job *self) {
  self->error = statfs(self->strings[0], &self->statfs) == 0 ? 0 : errno;
}

static napi_value statfs_result(napi_env env, job *self) {
  napi_value object;
  napi_create_object(env, &object);
  set_number(env, object, "blockSize", (double)self->statfs.f_frsize);
  set_number(env, object, "blocks", (double)self->statfs.f_blocks);
  set_number(env, object, "freeBlocks", (double)self->statfs.f_bfree);
  set_number(env, object, "availableBlocks", (double)self->statfs.f_bavail);
  set_number(env, object, "files", (double)self->statfs.f_files);
  set_number(env, object, "freeFiles", (double)self->statfs.f_ffree);
  set_number(env, object, "type", (double)(uint32_t)self->statfs.f_type);
  return object;
}

static napi_value system_statfs(napi_env env, napi_callback_info info) {
  job *self = job_from_arguments(env, info, 1, false);
  if (self == NULL) return NULL;
  self->run = run_statfs;
  self->result = statfs_result;
  return job_start(env, self, "statfs");
}

static void run_realpath(job *self) {
  char *resolved = realpath(self->strings[0], NULL);
  if (resolved == NULL) {
    self->error = errno;
    return;
  }
  free(self->strings[0]);
  self->strings[0] = resolved;
}

static napi_value realpath_result(napi_env env, job *self) {
  napi_value text;
  napi_create_string_utf8(env, self->strings[0], NAPI_AUTO_LENGTH, &text);
  return text;
}

static napi_value system_realpath(napi_env env, napi_callback_info info) {
  job *self = job_from_arguments(env, info, 1, false);
  if (self == NULL) return NULL;
  self->run = run_realpath;
  self->result = realpath_result;
  return job_start(env, self, "realpath");
}

static void run_lstat(job *self) {
  self->error = lstat(self->strings[0], &self->stat) == 0 ? 0 : errno;
}

static napi_value lstat_result(napi_env env, job *self) {
  napi_value object;
  napi_create_object(env, &object);
  set_number(env, object, "mode", self->stat.st_mode);
  set_number(env, object, "uid", self->stat.st_uid);
  set_number(env, object, "gid", self->stat.st_gid);
  set_number(env, object, "size", (double)self->stat.st_size);
  return object;
}

static napi_value system_lstat(napi_env env, napi_callback_info info) {
  job *self = job_from_arguments(env, info, 1, false);
  if (self == NULL) return NULL;
  self->run = run_lstat;
  self->result = lstat_result;
  return job_start(env, self, "lstat");
}

// ---- descriptors ----

static napi_value system_open_fuse(napi_env env, napi_callback_info info) {
  (void)info;
  int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return throw_errno(env, errno, "open /dev/fuse");
  return make_i32(env, fd);
}

static napi_value system_socket_pair(napi_env env, napi_callback_info info) {
  (void)info;
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
    return throw_errno(env, errno, "socketpair");
  napi_value result;
  napi_create_array_with_length(env, 2, &result);
  napi_set_element(env, result, 0, make_i32(env, pair[0]));
  napi_set_element(env, result, 1, make_i32(env, pair[1]));
  return result;
}

union descriptor_control {
  char space[CMSG_SPACE(sizeof(int))];
  struct cmsghdr align;
};

static napi_value system_send_descriptor(napi_env env, napi_callback_info info) {
  napi_value argv[3];
  size_t argc = 3;
  int32_t socket, fd;
  uint32_t tag;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  if (!arg_i32(env, argv[0], &socket) || !arg_i32(env, argv[1], &fd) || !arg_u32(env, argv[2], &tag)) return NULL;
  union descriptor_control control = {0};
  struct iovec data = {.iov_base = &tag, .iov_len = sizeof tag};
  struct msghdr message = {
      .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  if (sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return throw_errno(env, errno, "sendmsg");
  return make_undefined(env);
}

static napi_value system_receive_descriptor(napi_env env, napi_callback_info info) {
  napi_value argv[1], result;
  size_t argc = 1;
  int32_t socket;
  uint32_t tag = 0;
  int fd = -1;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  if (!arg_i32(env, argv[0], &socket)) return NULL;
  union descriptor_control control;
  struct iovec data = {.iov_base = &tag, .iov_len = sizeof tag};
  struct msghdr message = {
      .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
  ssize_t length = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (length < 0) return throw_errno(env, errno, "recvmsg");
  if (length == 0) return throw_errno(env, ECONNRESET, "recvmsg");
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
      header->cmsg_len == CMSG_LEN(sizeof fd))
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
  // fusermount sends one byte with it.
  if ((length != sizeof tag && length != 1) || fd < 0) {
    if (fd >= 0) close(fd);
    return throw_errno(env, EBADMSG, "recvmsg");
  }
  napi_create_object(env, &result);
  napi_set_named_property(env, result, "descriptor", make_i32(env, fd));
  napi_set_named_property(env, result, "tag", make_u32(env, tag));
  return result;
}

// ---- death with the parent ----

static unsigned grace_seconds;

// SIGALRM's default action ends the process even when its JavaScript thread hangs.
static void on_parent_death(int signal) {
  (void)signal;
  alarm(grace_seconds);
}

static napi_value system_die_with_parent(napi_env env, napi_callback_info info) {
  napi_value argv[2], result;
  size_t argc = 2;
  int32_t parent;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  if (!arg_i32(env, argv[0], &parent) || !arg_u32(env, argv[1], &grace_seconds)) return NULL;
  struct sigaction action = {.sa_handler = on_parent_death, .sa_flags = SA_RESTART};
  if (sigaction(SIGRTMIN + 1, &action, NULL) != 0) return throw_errno(env, errno, "sigaction");
  if (prctl(PR_SET_PDEATHSIG, SIGRTMIN + 1) != 0) return throw_errno(env, errno, "prctl");
  napi_get_boolean(env, getppid() == parent, &result);  // false: it died before the signal was asked for
  return result;
}

void system_register(napi_env env, napi_value exports) {
  export_function(env, exports, "mount", system_mount);
  export_function(env, exports, "unmount", system_unmount);
  export_function(env, exports, "bindMount", system_bind_mount);
  export_function(env, exports, "statfs", system_statfs);
  export_function(env, exports, "lstat", system_lstat);
  export_function(env, exports, "realpath", system_realpath);
  export_function(env, exports, "openFuse", system_open_fuse);
  export_function(env, exports, "socketPair", system_socket_pair);
  export_function(env, exports, "sendDescriptor", system_send_descriptor);
  export_function(env, exports, "receiveDescriptor", system_receive_descriptor);
  export_function(env, exports, "dieWithParent", system_die_with_parent);
}
