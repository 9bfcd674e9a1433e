// Shared by the addon's source files.
//
// Mapped memory never reaches JavaScript: a mapping is a *window*, an entry of a process-wide table (all worker
// threads load this same library and so share it), and JavaScript names it by number. Every access resolves the
// number, checks the range against the window and runs as a faultable call, so that SIGBUS becomes EIO.
#ifndef FAMFS_ADDON_H
#define FAMFS_ADDON_H

#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void memory_register(napi_env env, napi_value exports);
void device_register(napi_env env, napi_value exports);
void log_register(napi_env env, napi_value exports);
void fuse_register(napi_env env, napi_value exports);
void system_register(napi_env env, napi_value exports);
void watch_register(napi_env env, napi_value exports);

// ---- windows (memory.c) ----

// Resolves bytes [offset, offset + length) of window `id` and keeps it mapped until window_release(id).
// Returns NULL and sets *error to an errno (EBADF unknown or closing window, ERANGE outside it, EROFS).
char *window_acquire(uint32_t id, uint64_t offset, uint64_t length, bool write, int *error);
void window_release(uint32_t id);
// Copies `from` to bytes [offset, offset + length) of the window, past the caches where its hosts' do not agree: it is
// in the memory then, whatever becomes of this process. Returns 0 or an errno.
int window_store(uint32_t id, uint64_t offset, const void *from, uint64_t length);
// Before file data in an acquired window is read: drops the lines where other nodes may write it at any time. Returns 0
// or an errno.
int window_refresh(uint32_t id, char *at, uint64_t length);

// Loads the word at `offset`; with `drop` from the memory, past the caches. Returns 0 or an errno.
int window_look(uint32_t id, uint64_t offset, bool drop, uint64_t *value);

// Makes sure that pages [offset, offset + length) of an acquired window are mapped in, so that the kernel does not
// fault while it reads a reply from them (a fatal signal during such a fault loses the request). Remembers what it
// has done. Returns 0 or an errno.
int window_populate(uint32_t id, uint64_t offset, uint64_t length);

// ---- SIGBUS handler (fault.c) ----

void fault_install(void);  // idempotent

// Calls access(context); returns 0, or EIO when that raised SIGBUS and was left where it stood: it must hold no
// lock and own nothing.
int faultable_run(void (*access)(void *), void *context);

// Whether the kernel reported memory at [base, base + length) as bad before it was accessed, and where.
bool reported_bad(const void *base, uint64_t length, uint64_t *offset);

// memcpy that returns 0, or EIO when either side raised SIGBUS.
int faultable_copy(void *to, const void *from, size_t length);

// ---- cache maintenance of mapped memory, to be called in a faultable call (cache.c) ----

void cache_choose_instructions(void);  // idempotent; before any other
// A write-back is complete after cache_fence, which is a full fence: no later load passes it.
void cache_write_back(const void *from, size_t length);
void cache_fence(void);
// Writes back and drops the lines, so that the next load comes from the memory.
void cache_invalidate(const void *from, size_t length);
// Stores `from`, or zeroes when it is NULL, so that they are in the memory when it returns.
void store_durable(void *to, const void *from, size_t length);

// ---- simulated hosts whose caches do not agree (host-cache.c) ----

// Maps bytes [offset, offset + length) of the file as host `name` sees them. Returns 0 or an errno.
int host_cache_map(int fd, const char *name, uint64_t offset, uint64_t length, char **base);
// Whether `at` is memory of such a host. The calls below do nothing for any other.
bool host_cache_has(const void *at);
// Before an access. Returns 0 or EIO.
int host_cache_load(const void *from, uint64_t length);
void host_cache_write_back(const void *from, uint64_t length);
void host_cache_invalidate(const void *from, uint64_t length);
// The memory was changed past the caches: whole pages, none of which is being accessed.
void host_cache_discard(const void *from, uint64_t length);

// ---- ownership guard (log.c) ----

// A guard is a range of a window that must still hold certain bytes: the volume's identity line and the owner
// claims as this node last judged them. Returns 0 when guard `id` holds (0 = no guard), ESTALE when it does not,
// EBADF when there is no such guard or its window is closed, EIO.
int guard_check(uint32_t id);

// ---- Node-API conveniences (module.c) ----

enum { MAX_ARGUMENTS = 8 };
// The values of the first MAX_ARGUMENTS arguments; throws when there are fewer than `wanted`.
bool read_arguments(napi_env env, napi_callback_info info, size_t wanted, napi_value values[MAX_ARGUMENTS]);

// Each reads argument values and, when they are of the wrong type, throws a TypeError and returns false.
bool arg_u32(napi_env env, napi_value value, uint32_t *out);
bool arg_i32(napi_env env, napi_value value, int32_t *out);
// A JavaScript number that is an integer in [0, 2^53 - 1].
bool arg_u64(napi_env env, napi_value value, uint64_t *out);
bool arg_bool(napi_env env, napi_value value, bool *out);
// A Uint8Array (or Buffer); *data stays valid during the call.
bool arg_bytes(napi_env env, napi_value value, uint8_t **data, size_t *length);
// A typed array of kind `wanted`; *data stays valid during the call, *length counts elements.
bool arg_array(napi_env env, napi_value value, napi_typedarray_type wanted, void **data, size_t *length);
// A UTF-8 string, copied; the caller frees.
bool arg_string(napi_env env, napi_value value, char **out);

// Throws an Error with `code` ("EIO"), `errno` and `syscall`, message "what: EIO, Input/output error".
// Returns NULL so that a function can `return throw_errno(...)`.
napi_value throw_errno(napi_env env, int error, const char *what);
// "EIO" for 5; "E5" for one without a name.
const char *errno_name(int error);

napi_value make_undefined(napi_env env);
napi_value make_u32(napi_env env, uint32_t value);
napi_value make_i32(napi_env env, int32_t value);
napi_value make_number(napi_env env, double value);

void export_function(napi_env env, napi_value exports, const char *name, napi_callback function);

#endif
