/* The CPU time that the process's control group grants it. */
#ifndef DLC_CPU_QUOTA_H
#define DLC_CPU_QUOTA_H

/* The quota in cores, rounded up: the least of the process's group and the groups around it, under cgroup v1 or v2.
 * INT_MAX where there is none. */
int dlc_cpu_quota(void);

#endif
