#include "addon.h"

void fuse_register(napi_env env, napi_value exports) {
  (void)env;
  (void)exports;
}
