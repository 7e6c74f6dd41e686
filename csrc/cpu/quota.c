#include "cpu/quota.h"

#include <limits.h>

#ifdef __linux__

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define CGROUP_MOUNT "/sys/fs/cgroup"

enum { PATH_BYTES = 4096, LINE_BYTES = 4096 };

static bool read_line(char *line, const char *directory, const char *file)
{
    char path[PATH_BYTES];
    int length = snprintf(path, sizeof path, "%s/%s", directory, file);
    if (length < 0 || length >= PATH_BYTES)
        return false;
    FILE *stream = fopen(path, "re");
    if (!stream)
        return false;
    bool read = fgets(line, LINE_BYTES, stream) != NULL;
    fclose(stream);
    return read;
}

static int cores(long long quota, long long period)
{
    if (quota <= 0 || period <= 0)
        return INT_MAX;
    long long rounded = quota / period + (quota % period != 0);
    return rounded < INT_MAX ? (int)rounded : INT_MAX;
}

/* "max 100000" or "150000 100000" */
static int quota_v2(const char *directory)
{
    char line[LINE_BYTES];
    long long quota, period;
    if (!read_line(line, directory, "cpu.max") || sscanf(line, "%lld %lld", &quota, &period) != 2)
        return INT_MAX;
    return cores(quota, period);
}

/* The quota is -1 where there is none. */
static int quota_v1(const char *directory)
{
    char line[LINE_BYTES];
    long long quota, period;
    if (!read_line(line, directory, "cpu.cfs_quota_us") || sscanf(line, "%lld", &quota) != 1)
        return INT_MAX;
    if (!read_line(line, directory, "cpu.cfs_period_us") || sscanf(line, "%lld", &period) != 1)
        return INT_MAX;
    return cores(quota, period);
}

/* The least quota of mount/group and of every directory above it, mount included. In a container the group may name a
 * path of the host that is not there; the mount itself is then the container's group. */
static int least_quota(const char *mount, const char *group, int (*quota)(const char *directory))
{
    char directory[PATH_BYTES];
    int length = snprintf(directory, sizeof directory, "%s%s", mount, group);
    if (length < 0 || length >= PATH_BYTES)
        return INT_MAX;
    int least = INT_MAX;
    for (;;) {
        int here = quota(directory);
        least = here < least ? here : least;
        char *slash = strrchr(directory, '/');
        if (!slash || slash < directory + strlen(mount))
            return least;
        *slash = '\0';
    }
}

static bool lists(const char *controllers, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = controllers; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, name, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return true;
    }
    return false;
}

int dlc_cpu_quota(void)
{
    FILE *stream = fopen("/proc/self/cgroup", "re");
    if (!stream)
        return INT_MAX;
    int least = INT_MAX;
    char line[LINE_BYTES];
    while (fgets(line, sizeof line, stream)) {
        /* "hierarchy:controllers:/group"; the unified hierarchy has no controllers */
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *controllers++ = '\0';
        *group++ = '\0';
        int here = INT_MAX;
        if (*controllers == '\0') {
            here = least_quota(CGROUP_MOUNT, group, quota_v2);
        } else if (lists(controllers, "cpu")) {
            char mount[sizeof CGROUP_MOUNT + LINE_BYTES];
            snprintf(mount, sizeof mount, CGROUP_MOUNT "/%s", controllers);
            here = least_quota(mount, group, quota_v1);
        }
        least = here < least ? here : least;
    }
    fclose(stream);
    return least;
}

#else

int dlc_cpu_quota(void) { return INT_MAX; }

#endif
