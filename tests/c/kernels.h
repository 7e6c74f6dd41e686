/* The parts of the program that tests the kernel table. */
#ifndef DLC_TESTS_KERNELS_H
#define DLC_TESTS_KERNELS_H

#include "cpu/kernels.h"

void test_map(const dlc_real_kernels *kernels, int32_t dtype, int64_t samples);
void test_map_walks(const dlc_real_kernels *kernels, int32_t dtype, int64_t walks);
void test_gemm(const dlc_gemm_kernels *kernels, int32_t dtype);
void test_gemm_bfloat16(const dlc_gemm_kernels *kernels);
void test_rows(const dlc_real_kernels *kernels, int32_t dtype);
void test_steps(const dlc_real_kernels *kernels, int32_t dtype);
void test_random(const dlc_real_kernels *kernels, int32_t dtype);

#endif
