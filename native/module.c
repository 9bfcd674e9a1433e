// Entry of the addon, and the Node-API conveniences of addon.h. Each source file registers its own functions.
#include "addon.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool wrong_type(napi_env env, const char *wanted) {
  char message[96];
  snprintf(message, sizeof message, "argument must be %s", wanted);
  napi_throw_type_error(env, NULL, message);
  return false;
}

bool read_arguments(napi_env env, napi_callback_info info, size_t wanted, napi_value values[MAX_ARGUMENTS]) {
  size_t count = MAX_ARGUMENTS;
  if (napi_get_cb_info(env, info, &count, values, NULL, NULL) != napi_ok) return false;
  if (count >= wanted) return true;
  napi_throw_type_error(env, NULL, "too few arguments");
  return false;
}

bool arg_u64(napi_env env, napi_value value, uint64_t *out) {
  double number;
  if (napi_get_value_double(env, value, &number) != napi_ok || !(number >= 0 && number <= 9007199254740991.0) ||
      number != floor(number))
    return wrong_type(env, "an integer from 0 to 2^53 - 1");
  *out = (uint64_t)number;
  return true;
}

bool arg_u32(napi_env env, napi_value value, uint32_t *out) {
  uint64_t wide;
  if (!arg_u64(env, value, &wide)) return false;
  if (wide > UINT32_MAX) return wrong_type(env, "a 32-bit unsigned integer");
  *out = (uint32_t)wide;
  return true;
}

bool arg_i32(napi_env env, napi_value value, int32_t *out) {
  double number;
  if (napi_get_value_double(env, value, &number) != napi_ok || number != floor(number) || number < INT32_MIN ||
      number > INT32_MAX)
    return wrong_type(env, "a 32-bit integer");
  *out = (int32_t)number;
  return true;
}

bool arg_bool(napi_env env, napi_value value, bool *out) {
  return napi_get_value_bool(env, value, out) == napi_ok || wrong_type(env, "a boolean");
}

bool arg_array(napi_env env, napi_value value, napi_typedarray_type wanted, void **data, size_t *length) {
  bool typed = false;
  napi_typedarray_type type;
  if (napi_is_typedarray(env, value, &typed) == napi_ok && typed &&
      napi_get_typedarray_info(env, value, &type, length, data, NULL, NULL) == napi_ok && type == wanted)
    return true;
  napi_throw_type_error(env, NULL, "argument must be a typed array of the documented kind");
  return false;
}

bool arg_bytes(napi_env env, napi_value value, uint8_t **data, size_t *length) {
  bool typed = false;
  napi_typedarray_type type;
  if (napi_is_typedarray(env, value, &typed) != napi_ok || !typed ||
      napi_get_typedarray_info(env, value, &type, length, (void **)data, NULL, NULL) != napi_ok ||
      type != napi_uint8_array)
    return wrong_type(env, "a Uint8Array");
  static uint8_t nothing;
  if (*data == NULL) *data = &nothing;  // of an empty one; memcpy takes no NULL, not even for 0 bytes
  return true;
}

bool arg_string(napi_env env, napi_value value, char **out) {
  size_t length;
  if (napi_get_value_string_utf8(env, value, NULL, 0, &length) != napi_ok) return wrong_type(env, "a string");
  char *text = malloc(length + 1);
  if (text == NULL) {
    throw_errno(env, ENOMEM, "malloc");
    return false;
  }
  napi_get_value_string_utf8(env, value, text, length + 1, &length);
  if (strlen(text) != length) {
    free(text);
    return wrong_type(env, "a string without NUL");
  }
  *out = text;
  return true;
}

const char *errno_name(int error) {
  const char *name = strerrorname_np(error);
  return name != NULL ? name : "EUNKNOWN";
}

napi_value throw_errno(napi_env env, int error, const char *what) {
  char message[256];
  napi_value text, code, failure, number, syscall;
  snprintf(message, sizeof message, "%s: %s, %s", what, errno_name(error), strerror(error));
  napi_create_string_utf8(env, message, NAPI_AUTO_LENGTH, &text);
  napi_create_string_utf8(env, errno_name(error), NAPI_AUTO_LENGTH, &code);
  napi_create_error(env, code, text, &failure);
  napi_create_int32(env, error, &number);
  napi_set_named_property(env, failure, "errno", number);
  napi_create_string_utf8(env, what, NAPI_AUTO_LENGTH, &syscall);
  napi_set_named_property(env, failure, "syscall", syscall);
  napi_throw(env, failure);
  return NULL;
}

napi_value make_undefined(napi_env env) {
  napi_value value;
  napi_get_undefined(env, &value);
  return value;
}

napi_value make_u32(napi_env env, uint32_t value) {
  napi_value result;
  napi_create_uint32(env, value, &result);
  return result;
}

napi_value make_i32(napi_env env, int32_t value) {
  napi_value result;
  napi_create_int32(env, value, &result);
  return result;
}

napi_value make_number(napi_env env, double value) {
  napi_value result;
  napi_create_double(env, value, &result);
  return result;
}

void export_function(napi_env env, napi_value exports, const char *name, napi_callback function) {
  napi_value value;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, function, NULL, &value);
  napi_set_named_property(env, exports, name, value);
}

static napi_value init(napi_env env, napi_value exports) {
  memory_register(env, exports);
  device_register(env, exports);
  log_register(env, exports);
  fuse_register(env, exports);
  system_register(env, exports);
  watch_register(env, exports);
  return exports;
}

NAPI_MODULE(famfs, init)
