/* Arrays at the edge of memory that can be read, and numbers to fill them with. */
#ifndef DLC_TESTS_ARRAYS_H
#define DLC_TESTS_ARRAYS_H

#include "dlcore.h"

/* Where an array touches a page without access. On its other side stand bytes that must not change. */
typedef enum edge { EDGE_BEHIND, EDGE_BEFORE, EDGE_COUNT } edge;

enum { ROOM_COUNT = 9, ROOM_BYTES = 1 << 22 };

/* Room for an array of n elements that takes the place of the one before in room `room`; its bytes are 0xA5 repeated. */
void *place(int room, int32_t dtype, int64_t n, edge edge);

/* Fails where bytes beside an array that is in its place have changed. */
void expect_intact(void);

int64_t size_of(int32_t dtype);
double get(int32_t dtype, const void *x, int64_t i);
void set(int32_t dtype, void *x, int64_t i, double value);
double round_to(int32_t dtype, double value);

/* A stream of numbers, the same in every run. */
uint64_t next_bits(void);
double next_uniform(double low, double high);
void fill_uniform(int32_t dtype, void *x, int64_t n, double low, double high);
void fill_integers(int32_t dtype, void *x, int64_t n, int64_t most);

dlc_array vector_of(int32_t dtype, void *data, int64_t n);
dlc_array matrix_of(int32_t dtype, void *data, int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride);

/* Fails unless the elements of two arrays are the same bits. */
void expect_same_bits(int32_t dtype, const void *got, const void *expected, int64_t n);

#endif
