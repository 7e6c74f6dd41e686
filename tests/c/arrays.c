#include "arrays.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "checks.h"

enum { UNTOUCHED = 0xA5, WATCHED_BYTES = 512 };

typedef struct room {
    char *begin, *end; /* that can be read */
    char *data, *data_end;
} room;

static room rooms[ROOM_COUNT];

static void open_room(room *room)
{
    const int64_t page = sysconf(_SC_PAGESIZE);
    char *memory = mmap(NULL, (size_t)(ROOM_BYTES + 2 * page), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory + page, ROOM_BYTES, PROT_READ | PROT_WRITE) != 0) {
        perror("mmap");
        exit(3);
    }
    room->begin = memory + page;
    room->end = room->begin + ROOM_BYTES;
}

/* The watched bytes before and behind the array, as far as the room goes. */
static int64_t bytes_before(const room *room)
{
    int64_t bytes = room->data - room->begin;
    return bytes < WATCHED_BYTES ? bytes : WATCHED_BYTES;
}

static int64_t bytes_behind(const room *room)
{
    int64_t bytes = room->end - room->data_end;
    return bytes < WATCHED_BYTES ? bytes : WATCHED_BYTES;
}

void *place(int index, int32_t dtype, int64_t n, edge edge)
{
    room *room = &rooms[index];
    const int64_t bytes = n * size_of(dtype);
    if (!room->begin)
        open_room(room);
    if (bytes > ROOM_BYTES) {
        printf("an array of %lld bytes does not fit in a room\n", (long long)bytes);
        exit(3);
    }
    room->data = edge == EDGE_BEHIND ? room->end - bytes : room->begin;
    room->data_end = room->data + bytes;
    memset(room->data - bytes_before(room), UNTOUCHED, (size_t)(bytes_before(room) + bytes + bytes_behind(room)));
    return room->data;
}

static bool is_untouched(const char *bytes, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if ((unsigned char)bytes[i] != UNTOUCHED)
            return false;
    return true;
}

void expect_intact(void)
{
    for (int i = 0; i < ROOM_COUNT; i++) {
        const room *room = &rooms[i];
        if (!room->data)
            continue;
        int64_t before = bytes_before(room);
        expect(is_untouched(room->data - before, before), "array %d was written before its begin", i);
        expect(is_untouched(room->data_end, bytes_behind(room)), "array %d was written behind its end", i);
    }
}

int64_t size_of(int32_t dtype)
{
    static const int64_t size[DLC_DTYPE_COUNT] = {4, 8, 1, 4, 8, 1};
    return size[dtype];
}

double get(int32_t dtype, const void *x, int64_t i)
{
    return dtype == DLC_FLOAT32 ? (double)((const float *)x)[i] : ((const double *)x)[i];
}

void set(int32_t dtype, void *x, int64_t i, double value)
{
    if (dtype == DLC_FLOAT32)
        ((float *)x)[i] = (float)value;
    else
        ((double *)x)[i] = value;
}

double round_to(int32_t dtype, double value) { return dtype == DLC_FLOAT32 ? (double)(float)value : value; }

/* xorshift64*, of S. Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016. */
uint64_t next_bits(void)
{
    static uint64_t state = 0x9E3779B97F4A7C15u;
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545F4914F6CDD1Du;
}

double next_uniform(double low, double high) { return low + (high - low) * ((double)(next_bits() >> 11) * 0x1p-53); }

void fill_uniform(int32_t dtype, void *x, int64_t n, double low, double high)
{
    for (int64_t i = 0; i < n; i++)
        set(dtype, x, i, next_uniform(low, high));
}

void fill_integers(int32_t dtype, void *x, int64_t n, int64_t most)
{
    for (int64_t i = 0; i < n; i++)
        set(dtype, x, i, (double)((int64_t)(next_bits() >> 33) % (2 * most + 1) - most));
}

dlc_array vector_of(int32_t dtype, void *data, int64_t n) { return (dlc_array){data, dtype, 1, {n}, {1}}; }

dlc_array matrix_of(int32_t dtype, void *data, int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride)
{
    return (dlc_array){data, dtype, 2, {rows, cols}, {row_stride, col_stride}};
}

void expect_same_bits(int32_t dtype, const void *got, const void *expected, int64_t n)
{
    if (expect(memcmp(got, expected, (size_t)(n * size_of(dtype))) == 0, "the bits differ"))
        return;
    for (int64_t i = 0; i < n; i++)
        if (memcmp((const char *)got + i * size_of(dtype), (const char *)expected + i * size_of(dtype),
                   (size_t)size_of(dtype)) != 0) {
            printf("    first at %lld of %lld: %a, not %a\n", (long long)i, (long long)n, get(dtype, got, i),
                   get(dtype, expected, i));
            return;
        }
}
