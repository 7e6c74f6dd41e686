#include "cpu/cache.h"

#include <stdatomic.h>
#include <unistd.h>

/* Asked for once: the answer takes CPUID, which a virtual machine is interrupted by. All threads get the same, whatever their
 * cores would say: they share out blocks by it. */
int64_t dlc_last_cache_bytes(void)
{
#ifdef _SC_LEVEL3_CACHE_SIZE
    static _Atomic int64_t known = -1;
    int64_t bytes = atomic_load_explicit(&known, memory_order_relaxed);
    if (bytes < 0) {
        const long reported = sysconf(_SC_LEVEL3_CACHE_SIZE);
        const int64_t found = reported > 0 ? reported : 0;
        bytes = atomic_compare_exchange_strong(&known, &bytes, found) ? found : bytes;
    }
    return bytes;
#else
    return 0;
#endif
}
