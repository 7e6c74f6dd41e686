/* The caches of this machine. */
#ifndef DLC_CPU_CACHE_H
#define DLC_CPU_CACHE_H

#include <stdint.h>

/* Bytes of the third-level cache as the system reports it, be it shared by few cores or by all; 0 where it does not. The
 * same at every call. */
int64_t dlc_last_cache_bytes(void);

#endif
