/* What kernels/probe.c defines, for the table of one ISA and real dtype. */
#ifndef DLC_KERNELS_PROBE_KERNELS_H
#define DLC_KERNELS_PROBE_KERNELS_H

#include "cpu/kernels.h"
#include "cpu/simd.h"

extern const dlc_probe_kernels DLC_NAME(dlc_probe_kernels);

#endif
