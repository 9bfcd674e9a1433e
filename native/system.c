#include "addon.h"

void system_register(napi_env env, napi_value exports) {
  (void)env;
  (void)exports;
}
