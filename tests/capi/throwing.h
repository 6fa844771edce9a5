/* A source that throws, in C++, for capi_test.c. */
#ifndef SHRINKWARP_TESTS_THROWING_H
#define SHRINKWARP_TESTS_THROWING_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Beside the numbers of statuses, which stand for the library's errors. */
enum { THROW_BAD_ALLOC = 100, THROW_A_NUMBER = 101, THROW_A_LONG_MESSAGE = 102 };

/* A shrinkwarp_read. user points to an int32_t that says what is thrown; every message says "thrown in a callback". */
int read_that_throws(void* user, int64_t first, int64_t count, double* X, int64_t row_stride);

#ifdef __cplusplus
}
#endif

#endif
