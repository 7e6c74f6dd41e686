#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>

#define DLC_STRING_(x) #x
#define DLC_STRING(x) DLC_STRING_(x)

static _Thread_local char last_error[512];

dlc_status dlc_fail(dlc_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_error, sizeof last_error, format, arguments);
    va_end(arguments);
    return status;
}

const char *dlc_last_error(void) { return last_error; }

const char *dlc_version(void)
{
    return DLC_STRING(DLC_VERSION_MAJOR) "." DLC_STRING(DLC_VERSION_MINOR) "." DLC_STRING(DLC_VERSION_PATCH);
}
