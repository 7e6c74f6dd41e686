/* How the core reports failure: a status, and a sentence for the calling thread. */
#ifndef DLC_CORE_STATUS_H
#define DLC_CORE_STATUS_H

#include "dlcore.h"

/* Sets the calling thread's message (printf format) and returns status. */
DLC_API dlc_status dlc_fail(dlc_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define DLC_TRY(call)                          \
    do {                                       \
        dlc_status dlc_try_status = (call);    \
        if (dlc_try_status != DLC_OK)          \
            return dlc_try_status;             \
    } while (0)

#endif
