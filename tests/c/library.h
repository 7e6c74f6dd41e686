/* The parts of the program that tests what libdlcore exports. */
#ifndef DLC_TESTS_LIBRARY_H
#define DLC_TESTS_LIBRARY_H

#include <stdint.h>

/* Calls run on exactly this many threads, however small; 0: as they would. */
void use_team(int threads);

void test_library_products(int32_t dtype);
void test_library_ops(int32_t dtype);

#endif
