#include "addon.h"

void log_register(napi_env env, napi_value exports) {
  (void)env;
  (void)exports;
}
