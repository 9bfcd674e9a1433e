#include "addon.h"

void memory_register(napi_env env, napi_value exports) {
  (void)env;
  (void)exports;
}
