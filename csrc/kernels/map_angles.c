/* The instructions of map programs that are functions of angles, or their inverses. As in map.c, an element's result depends
 * neither on its place nor on n. */
#include <math.h>

#include "kernels/map_turns.h"
#include "kernels/math_angles.h"

/* y, with C's function of the lanes of x that are far from 0 */
static vreal with_far(vreal y, vreal x, real function(real))
{
    for (int lane = 0; lane < DLC_LANES; lane++)
        if (x[lane] > DLC_FAR || x[lane] < -DLC_FAR)
            y[lane] = function(x[lane]);
    return y;
}

#define DEFINE_ANGLE_MAP(name)                                        \
    DLC_MAP_HEAD(name)                                                \
    {                                                                 \
        DLC_UNREAD_1                                                  \
        if (!has_far(a, n, DLC_FAR))                                  \
            LONG_LOOP(1, v_##name(x))                                 \
        else                                                          \
            LONG_LOOP(1, with_far(v_##name(x), x, DLC_OF_REAL(name))) \
    }
DEFINE_ANGLE_MAP(sin)
DEFINE_ANGLE_MAP(cos)
DEFINE_ANGLE_MAP(tan)

DEFINE_RARER_MAP(arcsin, 1)
DEFINE_RARER_MAP(arccos, 1)
DEFINE_RARER_MAP(arctan, 1)
DEFINE_RARER_MAP(arctan2, 2)
