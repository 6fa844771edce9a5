/* shrinkwarp.h from C: values by hand, certificates made anew, refusals, callbacks, threads, structs of other versions.
 *
 *   capi_test cpu|cuda
 */
#define _DEFAULT_SOURCE /* threads, and memory that is nowhere */

#include <math.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <shrinkwarp/shrinkwarp.h>

#include "throwing.h"

static int failures;
static const char* device;

static void fail(int line, const char* words) {
  printf("capi_test.c:%d: %s (last error: %s)\n", line, words, shrinkwarp_last_error());
  ++failures;
}

static void check(int line, int holds, const char* condition) {
  if (!holds) fail(line, condition);
}

static void check_near(int line, double found, double wanted, double tolerance) {
  char words[200];
  if (fabs(found - wanted) <= tolerance) return;
  snprintf(words, sizeof words, "found %.17g, wanted %.17g within %.3g", found, wanted, tolerance);
  fail(line, words);
}

/* The call must have failed with this status and a message that begins with the function and has the words. */
static void check_refused(int line, shrinkwarp_status found, shrinkwarp_status wanted, const char* function,
                          const char* expected) {
  const char* const message = shrinkwarp_last_error();
  char words[200];
  if (found != wanted) {
    snprintf(words, sizeof words, "found %s, wanted %s", shrinkwarp_status_name(found), shrinkwarp_status_name(wanted));
    fail(line, words);
  } else if (strncmp(message, function, strlen(function)) != 0 || message[strlen(function)] != ':' ||
             !strstr(message, expected)) {
    snprintf(words, sizeof words, "wanted the message of %s to say: %s", function, expected);
    fail(line, words);
  }
}

#define CHECK(condition) check(__LINE__, (condition), #condition)
#define CHECK_NEAR(found, wanted, tolerance) check_near(__LINE__, found, wanted, tolerance)
#define CHECK_OK(call) check_ok(__LINE__, call)
#define REFUSED(status, function, words, call) check_refused(__LINE__, call, status, function, words)

static void check_ok(int line, shrinkwarp_status status) {
  if (status != SHRINKWARP_OK) fail(line, shrinkwarp_status_name(status));
}

/* ---- Problems ---- */

static shrinkwarp_context* make_context(int threads) {
  shrinkwarp_context* context = NULL;
  CHECK_OK(strcmp(device, "cuda") == 0 ? shrinkwarp_context_create_cuda(0, &context)
                                       : shrinkwarp_context_create_cpu(threads, &context));
  return context;
}

/* On the host executor a problem takes long: fewer are enough. */
static int64_t fewer_on_cuda(int64_t count) {
  return strcmp(device, "cuda") == 0 ? count / 5 : count;
}

static shrinkwarp_matrix matrix_of(const void* data, int32_t type, int64_t rows, int64_t atoms) {
  shrinkwarp_matrix D;
  CHECK_OK(shrinkwarp_matrix_init(&D, sizeof D));
  D.data = data;
  D.type = type;
  D.rows = rows;
  D.atoms = atoms;
  return D;
}

static shrinkwarp_dictionary* make_dictionary(shrinkwarp_context* context, const double* data, int64_t rows,
                                              int64_t atoms) {
  const shrinkwarp_matrix D = matrix_of(data, SHRINKWARP_FLOAT64, rows, atoms);
  shrinkwarp_dictionary* dictionary = NULL;
  CHECK_OK(shrinkwarp_dictionary_create(context, &D, &dictionary));
  return dictionary;
}

static shrinkwarp_observations rows_of(const double* data, int64_t problems, int64_t dimension) {
  shrinkwarp_observations X;
  CHECK_OK(shrinkwarp_observations_init(&X, sizeof X));
  X.data = data;
  X.problems = problems;
  X.dimension = dimension;
  return X;
}

static shrinkwarp_lambda lambda_of(int32_t kind, double number) {
  shrinkwarp_lambda lambda;
  CHECK_OK(shrinkwarp_lambda_init(&lambda, sizeof lambda));
  lambda.kind = kind;
  lambda.number = number;
  return lambda;
}

static shrinkwarp_options options_of(double gap) {
  shrinkwarp_options options;
  CHECK_OK(shrinkwarp_options_init(&options, sizeof options));
  options.gap = gap;
  return options;
}

static double entry(const shrinkwarp_batch* batch, int64_t i, int64_t atom) {
  int64_t k;
  for (k = batch->offsets[i]; k < batch->offsets[i + 1]; ++k)
    if (batch->indices[k] == atom) return batch->values[k];
  return 0;
}

/* Numbers from -1 to 1 that look like chance. */
static double noise(int64_t k) {
  uint64_t bits = (uint64_t)k * 0x9e3779b97f4a7c15u + 0x1234567u;
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9u;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebu;
  return (double)(int64_t)(bits ^ (bits >> 31)) / 9223372036854775808.0;
}

static double* noise_array(int64_t count, int64_t seed) {
  int64_t k;
  double* const numbers = malloc((size_t)count * sizeof *numbers);
  for (k = 0; k < count; ++k) numbers[k] = noise(seed * 1000003 + k);
  return numbers;
}

/* ---- Versions, names, structs ---- */

static void test_versions(void) {
  char version[32];
  snprintf(version, sizeof version, "%d.%d.%d", SHRINKWARP_VERSION_MAJOR, SHRINKWARP_VERSION_MINOR,
           SHRINKWARP_VERSION_PATCH);
  CHECK(strcmp(shrinkwarp_version(), version) == 0);
  CHECK(shrinkwarp_version_number() ==
        SHRINKWARP_VERSION_MAJOR * 10000 + SHRINKWARP_VERSION_MINOR * 100 + SHRINKWARP_VERSION_PATCH);
  CHECK(strcmp(shrinkwarp_status_name(SHRINKWARP_OK), "SHRINKWARP_OK") == 0);
  CHECK(strcmp(shrinkwarp_status_name(SHRINKWARP_CALLBACK_ERROR), "SHRINKWARP_CALLBACK_ERROR") == 0);
  CHECK(strcmp(shrinkwarp_status_name(-1), "unknown status") == 0);
  CHECK(strcmp(shrinkwarp_last_error(), "") == 0); /* nothing has failed yet */
}

/* Programs that are compiled already count on these. A change here takes another SONAME. */
static void test_layout(void) {
  CHECK(SHRINKWARP_OK == 0 && SHRINKWARP_SHAPE_ERROR == 2 && SHRINKWARP_VALUE_ERROR == 4 && SHRINKWARP_CANCELLED == 8 &&
        SHRINKWARP_CALLBACK_ERROR == 11);
  CHECK(SHRINKWARP_FLOAT32 == 1 && SHRINKWARP_FLOAT64 == 2);
  CHECK(SHRINKWARP_LAMBDA_VALUE == 1 && SHRINKWARP_LAMBDA_MAX_NONZEROS == 7);
  CHECK(SHRINKWARP_SOLVER_AUTOMATIC == 0 && SHRINKWARP_SOLVER_PLAIN_WORKING_SET == 4);
#define AT(type, field, place) CHECK(offsetof(type, field) == (place))
  AT(shrinkwarp_matrix, data, 8);
  AT(shrinkwarp_matrix, rows, 16);
  AT(shrinkwarp_matrix, atoms, 24);
  AT(shrinkwarp_matrix, row_stride, 32);
  AT(shrinkwarp_matrix, atom_stride, 40);
  AT(shrinkwarp_matrix, type, 48);
  AT(shrinkwarp_observations, problems, 8);
  AT(shrinkwarp_observations, dimension, 16);
  AT(shrinkwarp_observations, data, 24);
  AT(shrinkwarp_observations, row_stride, 32);
  AT(shrinkwarp_observations, type, 40);
  AT(shrinkwarp_observations, read, 48);
  AT(shrinkwarp_observations, read_user, 56);
  AT(shrinkwarp_observations, name, 64);
  AT(shrinkwarp_lambda, kind, 8);
  AT(shrinkwarp_lambda, number, 16);
  AT(shrinkwarp_lambda, values, 24);
  AT(shrinkwarp_lambda, value_count, 32);
  AT(shrinkwarp_lambda, lambda_max, 40);
  AT(shrinkwarp_options, solver, 8);
  AT(shrinkwarp_options, restart, 12);
  AT(shrinkwarp_options, gap, 16);
  AT(shrinkwarp_options, max_iterations, 24);
  AT(shrinkwarp_options, memory_limit, 32);
  AT(shrinkwarp_options, weights, 40);
  AT(shrinkwarp_options, weight_count, 48);
  AT(shrinkwarp_options, group_size, 56);
  AT(shrinkwarp_options, ridge, 64);
  AT(shrinkwarp_options, nonnegative, 72);
  AT(shrinkwarp_options, initial_offsets, 80);
  AT(shrinkwarp_options, initial_indices, 88);
  AT(shrinkwarp_options, initial_values, 96);
  AT(shrinkwarp_options, initial_entries, 104);
  AT(shrinkwarp_options, skip, 112);
  AT(shrinkwarp_options, skip_user, 120);
  AT(shrinkwarp_options, on_progress, 128);
  AT(shrinkwarp_options, progress_user, 136);
  AT(shrinkwarp_options, on_log, 144);
  AT(shrinkwarp_options, log_user, 152);
  AT(shrinkwarp_progress, done, 8);
  AT(shrinkwarp_progress, total, 16);
  AT(shrinkwarp_progress, unconverged, 24);
  AT(shrinkwarp_progress, worst_gap, 32);
  AT(shrinkwarp_progress, iterations, 40);
  AT(shrinkwarp_batch, problems, 8);
  AT(shrinkwarp_batch, atoms, 16);
  AT(shrinkwarp_batch, index, 24);
  AT(shrinkwarp_batch, offsets, 32);
  AT(shrinkwarp_batch, indices, 40);
  AT(shrinkwarp_batch, values, 48);
  AT(shrinkwarp_batch, lambda, 56);
  AT(shrinkwarp_batch, objective, 64);
  AT(shrinkwarp_batch, dual_gap, 72);
  AT(shrinkwarp_batch, iterations, 80);
  AT(shrinkwarp_batch, converged, 88);
  AT(shrinkwarp_summary, problems, 8);
  AT(shrinkwarp_summary, unconverged, 16);
  AT(shrinkwarp_summary, nonzeros, 24);
  AT(shrinkwarp_summary, iterations, 32);
  AT(shrinkwarp_summary, worst_gap, 40);
#undef AT
}

/* A struct of a later version: this one's, and a field more. */
struct later_options {
  shrinkwarp_options now;
  double more;
};

static void test_structs_of_other_versions(void) {
  static const double D[] = {1, 0, 0, 1}, X[] = {3, -0.5};
  shrinkwarp_context* const context = make_context(1);
  shrinkwarp_dictionary* const dictionary = make_dictionary(context, D, 2, 2);
  const shrinkwarp_observations rows = rows_of(X, 1, 2);
  const shrinkwarp_lambda lambda = lambda_of(SHRINKWARP_LAMBDA_VALUE, 1);
  const size_t earlier = offsetof(shrinkwarp_options, weights);
  struct later_options later;
  shrinkwarp_options options;
  shrinkwarp_summary summary;
  shrinkwarp_result* result = NULL;
  unsigned char* bytes;
  size_t k;

  /* Initialising writes what there is room for and no byte more. */
  bytes = (unsigned char*)&later;
  memset(bytes, 0xab, sizeof later);
  CHECK_OK(shrinkwarp_options_init(&later.now, earlier));
  CHECK(later.now.struct_size == earlier && later.now.gap == 1e-6 && later.now.max_iterations == 100000);
  CHECK(later.now.memory_limit == (int64_t)1 << 32 && later.now.restart == 1);
  for (k = earlier; k < sizeof later; ++k) CHECK(bytes[k] == 0xab);

  /* An earlier version's struct ends sooner; what lies behind it is not looked at. */
  later.now.gap = 1e-9;
  CHECK_OK(shrinkwarp_solve(context, dictionary, &rows, &lambda, &later.now, NULL, &result));
  CHECK_NEAR(entry(shrinkwarp_result_batch(result), 0, 0), 2, sqrt(2 * 1e-9 * 4.625));
  shrinkwarp_result_destroy(result);

  /* A later version's struct does as long as it asks for nothing that this one does not know. */
  CHECK_OK(shrinkwarp_options_init(&later.now, sizeof later));
  CHECK(later.now.struct_size == sizeof later && later.now.group_size == 1 && later.more == 0);
  later.now.nonnegative = 1;
  CHECK_OK(shrinkwarp_solve(context, dictionary, &rows, &lambda, &later.now, NULL, &result));
  CHECK(entry(shrinkwarp_result_batch(result), 0, 1) == 0);
  shrinkwarp_result_destroy(result);
  later.more = 0.5;
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_solve", "later version",
          shrinkwarp_solve(context, dictionary, &rows, &lambda, &later.now, NULL, &result));
  CHECK(result == NULL);

  /* Sizes that no version has. */
  CHECK_OK(shrinkwarp_options_init(&options, sizeof options));
  for (k = 0; k < 5; ++k) {
    static const size_t sizes[] = {0, 7, sizeof(void*), sizeof(shrinkwarp_options) - 4, (size_t)-1};
    options.struct_size = sizes[k];
    REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_solve", "options.struct_size is ",
            shrinkwarp_solve(context, dictionary, &rows, &lambda, &options, NULL, &result));
    REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_options_init", "options.struct_size is ",
            shrinkwarp_options_init(&options, sizes[k]));
  }

  /* Of a summary what the caller has room for is written. */
  memset(&summary, 0xab, sizeof summary);
  summary.struct_size = offsetof(shrinkwarp_summary, nonzeros);
  CHECK_OK(shrinkwarp_solve(context, dictionary, &rows, &lambda, NULL, &summary, &result));
  CHECK(summary.problems == 1 && summary.unconverged == 0 && summary.nonzeros == (int64_t)0xababababababababu);
  CHECK(summary.struct_size == offsetof(shrinkwarp_summary, nonzeros));
  shrinkwarp_result_destroy(result);
  summary.struct_size = 3;
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_solve", "summary.struct_size is 3",
          shrinkwarp_solve(context, dictionary, &rows, &lambda, NULL, &summary, &result));

  shrinkwarp_dictionary_destroy(dictionary);
  shrinkwarp_context_destroy(context);
}

/* ---- Values by hand ---- */

/* With D = I the code is the soft-threshold; however D and X lie in memory. */
static void test_soft_thresholds(void) {
  static const double identity[] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  static const double X[] = {3, -0.5, 0, -2, 1, 4};
  static const double wanted[] = {1.75, 0, 0, -0.75, 0, 2.75};
  static const double padded[] = {3, -0.5, 0, 77, 78, -2, 1, 4};
  static const float single[] = {3, -0.5f, 0, 77, 78, -2, 1, 4};
  shrinkwarp_context* const context = make_context(2);
  shrinkwarp_dictionary* const dictionary = make_dictionary(context, identity, 3, 3);
  const shrinkwarp_lambda lambda = lambda_of(SHRINKWARP_LAMBDA_VALUE, 1.25);
  shrinkwarp_result* result[3] = {NULL, NULL, NULL};
  int way, i, j;
  CHECK(shrinkwarp_dictionary_rows(dictionary) == 3 && shrinkwarp_dictionary_atoms(dictionary) == 3);
  for (way = 0; way < 3; ++way) {
    shrinkwarp_observations rows = rows_of(X, 2, 3);
    shrinkwarp_summary summary;
    const shrinkwarp_batch* batch;
    if (way > 0) {
      rows.data = way == 1 ? (const void*)padded : (const void*)single;
      rows.type = way == 1 ? SHRINKWARP_FLOAT64 : SHRINKWARP_FLOAT32;
      rows.row_stride = 5;
    }
    CHECK_OK(shrinkwarp_summary_init(&summary, sizeof summary));
    CHECK_OK(shrinkwarp_solve(context, dictionary, &rows, &lambda, NULL, &summary, &result[way]));
    batch = shrinkwarp_result_batch(result[way]);
    if (!batch) return;
    CHECK(batch->struct_size >= sizeof *batch && batch->problems == 2 && batch->atoms == 3);
    CHECK(batch->offsets[0] == 0 && batch->offsets[1] == 1 && batch->offsets[2] == 3);
    for (i = 0; i < 2; ++i) {
      CHECK(batch->index[i] == i && batch->lambda[i] == 1.25 && batch->converged[i] == 1);
      /* 1/2 ||z - z*||^2 <= gap, for the objective is strongly convex with D = I. */
      for (j = 0; j < 3; ++j) CHECK_NEAR(entry(batch, i, j), wanted[3 * i + j], sqrt(2 * batch->dual_gap[i]));
    }
    /* 1/2 (1.25^2 + 0.5^2) + 1.25 * 1.75 */
    CHECK_NEAR(batch->objective[0], 3.09375, batch->dual_gap[0] + 1e-15);
    CHECK(summary.problems == 2 && summary.unconverged == 0 && summary.nonzeros == 3 && summary.worst_gap <= 1e-6);
    CHECK(memcmp(batch->values, shrinkwarp_result_batch(result[0])->values, 3 * sizeof(double)) == 0);
  }
  for (way = 0; way < 3; ++way) shrinkwarp_result_destroy(result[way]);
  shrinkwarp_dictionary_destroy(dictionary);
  shrinkwarp_context_destroy(context);
}

/* The same matrix in every order and type gives the same bits. */
static void test_layouts_of_dictionaries(void) {
  enum { n = 3, m = 4, ways = 6 };
  static const double X[] = {1, -2, 3};
  double row_major[n * m], column_major[n * m], wide[n * 7], tall[m * 5], every_other[2 * n * m];
  float single[n * m];
  double codes[ways][m];
  shrinkwarp_context* const context = make_context(1);
  const shrinkwarp_lambda lambda = lambda_of(SHRINKWARP_LAMBDA_SAMPLE_FRACTION, 0.25);
  const shrinkwarp_observations rows = rows_of(X, 1, n);
  int way, i, j;
  for (i = 0; i < n; ++i) {
    for (j = 0; j < m; ++j) {
      const float value = (float)noise(i * m + j); /* float holds it exactly */
      single[i * m + j] = value;
      row_major[i * m + j] = column_major[i + j * n] = wide[i * 7 + j] = tall[i + j * 5] =
          every_other[2 * (i + j * n)] = value;
    }
  }
  for (way = 0; way < ways; ++way) {
    const void* const data[ways] = {row_major, column_major, wide, tall, every_other, single};
    const int64_t row_strides[ways] = {0, 1, 7, 1, 2, m}, atom_strides[ways] = {0, n, 1, 5, 2 * n, 1};
    shrinkwarp_matrix D = matrix_of(data[way], way == 5 ? SHRINKWARP_FLOAT32 : SHRINKWARP_FLOAT64, n, m);
    shrinkwarp_dictionary* dictionary = NULL;
    shrinkwarp_result* result = NULL;
    D.row_stride = row_strides[way];
    D.atom_stride = atom_strides[way];
    CHECK_OK(shrinkwarp_dictionary_create(context, &D, &dictionary));
    CHECK_OK(shrinkwarp_solve(context, dictionary, &rows, &lambda, NULL, NULL, &result));
    if (!result) return;
    CHECK(shrinkwarp_result_batch(result)->offsets[1] > 0);
    for (j = 0; j < m; ++j) codes[way][j] = entry(shrinkwarp_result_batch(result), 0, j);
    CHECK(memcmp(codes[way], codes[0], sizeof codes[0]) == 0);
    shrinkwarp_result_destroy(result);
    shrinkwarp_dictionary_destroy(dictionary);
  }
  shrinkwarp_context_destroy(context);
}

/* One problem with D = I and some options. */
static void check_code(int line, shrinkwarp_context* context, const double* x, int m, const shrinkwarp_lambda* lambda,
                       const shrinkwarp_options* options, const double* wanted, double tolerance) {
  double* const identity = calloc((size_t)(m * m), sizeof *identity);
  shrinkwarp_dictionary* dictionary;
  shrinkwarp_result* result = NULL;
  const shrinkwarp_observations rows = rows_of(x, 1, m);
  int j;
  for (j = 0; j < m; ++j) identity[j * (m + 1)] = 1;
  dictionary = make_dictionary(context, identity, m, m);
  check_ok(line, shrinkwarp_solve(context, dictionary, &rows, lambda, options, NULL, &result));
  for (j = 0; j < m && result; ++j)
    check_near(line, entry(shrinkwarp_result_batch(result), 0, j), wanted[j], tolerance);
  shrinkwarp_result_destroy(result);
  shrinkwarp_dictionary_destroy(dictionary);
  free(identity);
}

static void test_penalties(void) {
  static const double x[] = {3, -2, 1, -4};
  const double tolerance = sqrt(2e-12 * 15); /* 1/2 ||z - z*||^2 <= gap <= 1e-12 * 1/2 ||x||^2, and ||x||^2 = 30 */
  shrinkwarp_context* const context = make_context(1);
  const shrinkwarp_lambda one = lambda_of(SHRINKWARP_LAMBDA_VALUE, 1), none = lambda_of(SHRINKWARP_LAMBDA_VALUE, 0);
  shrinkwarp_options options = options_of(1e-12);
  {
    static const double wanted[] = {2, 0, 0, 0};
    options.nonnegative = 1;
    check_code(__LINE__, context, x, 4, &one, &options, wanted, tolerance);
  }
  options = options_of(1e-12);
  {
    const double weights[] = {0.5, 3, 0, INFINITY};
    static const double wanted[] = {2.5, 0, 1, 0};
    options.weights = weights;
    options.weight_count = 4;
    check_code(__LINE__, context, x, 4, &one, &options, wanted, tolerance);
  }
  options = options_of(1e-12);
  {
    static const double wanted[] = {1, -0.5, 0, -1.5}; /* the soft-threshold over 1 + ridge */
    options.ridge = 1;
    check_code(__LINE__, context, x, 4, &one, &options, wanted, tolerance);
  }
  options = options_of(1e-12);
  {
    /* ||(3, -4)|| = 5 and ||(0.3, 0.4)|| = 0.5: each group shrinks by 1. */
    static const double y[] = {3, -4, 0.3, 0.4};
    static const double wanted[] = {2.4, -3.2, 0, 0};
    options.group_size = 2;
    check_code(__LINE__, context, y, 4, &one, &options, wanted, tolerance);
  }
  check_code(__LINE__, context, x, 4, &none, NULL, x, sqrt(2e-6 * 15));
  shrinkwarp_context_destroy(context);
}

static void test_lambda_rules(void) {
  static const double x[] = {3, -2, 1};
  const double tolerance = sqrt(2e-12 * 7);
  shrinkwarp_context* const context = make_context(1);
  const shrinkwarp_options options = options_of(1e-12);
  shrinkwarp_lambda lambda = lambda_of(SHRINKWARP_LAMBDA_SAMPLE_FRACTION, 0.5); /* of 3 */
  static const double at_1_5[] = {1.5, -0.5, 0}, at_2[] = {1, 0, 0}, at_1[] = {2, -1, 0};
  const double half = 1.5;
  check_code(__LINE__, context, x, 3, &lambda, &options, at_1_5, tolerance);
  lambda.kind = SHRINKWARP_LAMBDA_RECORDING_FRACTION;
  check_code(__LINE__, context, x, 3, &lambda, &options, at_1_5, tolerance);
  lambda.lambda_max = 4; /* of another part of the recording, say */
  check_code(__LINE__, context, x, 3, &lambda, &options, at_2, tolerance);
  lambda = lambda_of(SHRINKWARP_LAMBDA_PER_PROBLEM, 0);
  lambda.values = &half;
  lambda.value_count = 1;
  check_code(__LINE__, context, x, 3, &lambda, &options, at_1_5, tolerance);
  lambda = lambda_of(SHRINKWARP_LAMBDA_L1_RADIUS, 3); /* 2 + 1 */
  check_code(__LINE__, context, x, 3, &lambda, &options, at_1, 1e-5);
  lambda = lambda_of(SHRINKWARP_LAMBDA_RESIDUAL_NORM, sqrt(3)); /* 1, 1 and 1 are left */
  check_code(__LINE__, context, x, 3, &lambda, &options, at_1, 1e-5);
  lambda = lambda_of(SHRINKWARP_LAMBDA_MAX_NONZEROS, 1); /* the second comes into use at 2 */
  check_code(__LINE__, context, x, 3, &lambda, &options, at_2, 1e-5);
  shrinkwarp_context_destroy(context);
}

static void test_lambda_max(void) {
  static const double D[] = {1, 0, 0, 2}, X[] = {5, 0, 1, -3, 0, 0}; /* atoms (1, 0) and (0, 2) */
  double found[4] = {-1, -1, -1, -7}, largest = -1;
  shrinkwarp_context* const context = make_context(1);
  shrinkwarp_dictionary* const dictionary = make_dictionary(context, D, 2, 2);
  shrinkwarp_observations rows = rows_of(X, 3, 2);
  shrinkwarp_options options = options_of(1e-6);
  CHECK_OK(shrinkwarp_lambda_max(context, dictionary, &rows, NULL, found, 4));
  CHECK(found[0] == 5 && found[1] == 6 && found[2] == 0 && found[3] == -7);
  CHECK_OK(shrinkwarp_recording_lambda_max(context, dictionary, &rows, NULL, &largest));
  CHECK(largest == 6);
  options.nonnegative = 1;
  CHECK_OK(shrinkwarp_lambda_max(context, dictionary, &rows, &options, found, 3));
  CHECK(found[0] == 5 && found[1] == 1 && found[2] == 0);
  rows.problems = 0;
  CHECK_OK(shrinkwarp_recording_lambda_max(context, dictionary, &rows, NULL, &largest));
  CHECK(largest == 0);
  CHECK_OK(shrinkwarp_lambda_max(context, dictionary, &rows, NULL, NULL, 0));
  rows.problems = 3;
  REFUSED(SHRINKWARP_SHAPE_ERROR, "shrinkwarp_lambda_max", "capacity is 2, wanted at least 3",
          shrinkwarp_lambda_max(context, dictionary, &rows, NULL, found, 2));
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_lambda_max", "lambda_max is NULL",
          shrinkwarp_lambda_max(context, dictionary, &rows, NULL, NULL, 3));
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_recording_lambda_max", "largest is NULL",
          shrinkwarp_recording_lambda_max(context, dictionary, &rows, NULL, NULL));
  rows.dimension = 1;
  REFUSED(SHRINKWARP_SHAPE_ERROR, "shrinkwarp_lambda_max", "length 1, wanted the dictionary's 2",
          shrinkwarp_lambda_max(context, dictionary, &rows, NULL, found, 3));
  shrinkwarp_dictionary_destroy(dictionary);
  shrinkwarp_context_destroy(context);
}

/* ---- Random problems ---- */

struct problems {
  int64_t n, m, N;
  double* D; /* rows without gaps */
  double* X;
};

static struct problems make_problems(int64_t n, int64_t m, int64_t N) {
  struct problems problems;
  problems.n = n;
  problems.m = m;
  problems.N = N;
  problems.D = noise_array(n * m, 1);
  problems.X = noise_array(n * N, 2);
  return problems;
}

static void free_problems(struct problems* problems) {
  free(problems->D);
  free(problems->X);
}

/* The objective of a code and its distance to a dual value, in plain loops. */
static void certify(const struct problems* problems, const shrinkwarp_batch* batch, int64_t i, double* objective,
                    double* gap, double* energy) {
  const double* const x = problems->X + batch->index[i] * problems->n;
  double* const r = malloc((size_t)problems->n * sizeof *r);
  double magnitude = 0, squares = 0, left = 0, largest = 0, scale, dual = 0;
  int64_t j, row, k;
  *energy = 0;
  for (row = 0; row < problems->n; ++row) {
    r[row] = x[row];
    for (k = batch->offsets[i]; k < batch->offsets[i + 1]; ++k)
      r[row] -= problems->D[row * problems->m + batch->indices[k]] * batch->values[k];
    squares += r[row] * r[row];
    *energy += x[row] * x[row] / 2;
  }
  for (k = batch->offsets[i]; k < batch->offsets[i + 1]; ++k) magnitude += fabs(batch->values[k]);
  for (j = 0; j < problems->m; ++j) {
    double correlation = 0;
    for (row = 0; row < problems->n; ++row) correlation += problems->D[row * problems->m + j] * r[row];
    largest = fmax(largest, fabs(correlation));
  }
  scale = fmin(1, batch->lambda[i] / largest); /* scale r is feasible for the dual */
  for (row = 0; row < problems->n; ++row) {
    left = x[row] - scale * r[row];
    dual += (x[row] * x[row] - left * left) / 2;
  }
  *objective = squares / 2 + batch->lambda[i] * magnitude;
  *gap = *objective - dual;
  free(r);
}

static void test_certificates(void) {
  static const int32_t solvers[] = {SHRINKWARP_SOLVER_AUTOMATIC, SHRINKWARP_SOLVER_ISTA, SHRINKWARP_SOLVER_FISTA,
                                    SHRINKWARP_SOLVER_WORKING_SET, SHRINKWARP_SOLVER_PLAIN_WORKING_SET};
  struct problems problems = make_problems(20, 50, fewer_on_cuda(30));
  shrinkwarp_context* const context = make_context(2);
  shrinkwarp_dictionary* const dictionary = make_dictionary(context, problems.D, problems.n, problems.m);
  const shrinkwarp_observations rows = rows_of(problems.X, problems.N, problems.n);
  const shrinkwarp_lambda lambda = lambda_of(SHRINKWARP_LAMBDA_SAMPLE_FRACTION, 0.2);
  size_t s;
  for (s = 0; s < sizeof solvers / sizeof *solvers; ++s) {
    shrinkwarp_options options = options_of(1e-8);
    shrinkwarp_summary summary;
    shrinkwarp_result* result = NULL;
    const shrinkwarp_batch* batch;
    double worst = 0;
    int64_t i, k;
    options.solver = solvers[s];
    CHECK_OK(shrinkwarp_summary_init(&summary, sizeof summary));
    CHECK_OK(shrinkwarp_solve(context, dictionary, &rows, &lambda, &options, &summary, &result));
    batch = shrinkwarp_result_batch(result);
    if (!batch) continue;
    CHECK(batch->problems == problems.N && batch->atoms == problems.m);
    for (i = 0; i < batch->problems; ++i) {
      double objective, gap, energy;
      certify(&problems, batch, i, &objective, &gap, &energy);
      CHECK(batch->index[i] == i && batch->converged[i] == 1 && batch->iterations[i] > 0);
      CHECK_NEAR(batch->objective[i], objective, 1e-13 * energy);
      CHECK_NEAR(batch->dual_gap[i], gap, 1e-12 * energy); /* the library adds to it for rounding */
      CHECK(gap <= 1e-8 * energy && batch->offsets[i] < batch->offsets[i + 1]);
      for (k = batch->offsets[i]; k + 1 < batch->offsets[i + 1]; ++k) CHECK(batch->indices[k] < batch->indices[k + 1]);
      worst = fmax(worst, batch->dual_gap[i] / energy);
    }
    CHECK(summary.problems == problems.N && summary.unconverged == 0);
    CHECK(summary.nonzeros == batch->offsets[problems.N]);
    CHECK_NEAR(summary.worst_gap, worst, 1e-15);
    shrinkwarp_result_destroy(result);
  }
  shrinkwarp_dictionary_destroy(dictionary);
  shrinkwarp_context_destroy(context);
  free_problems(&problems);
}

static int skip_odd(void* user, int64_t problem) {
  ++*(int64_t*)user;
  return problem % 2 == 1;
}

static void test_options(void) {
  struct problems problems = make_problems(12, 30, 9);
  shrinkwarp_context* const context = make_context(2);
  shrinkwarp_dictionary* const dictionary = make_dictionary(context, problems.D, problems.n, problems.m);
  const shrinkwarp_observations rows = rows_of(problems.X, problems.N, problems.n);
  const shrinkwarp_lambda lambda = lambda_of(SHRINKWARP_LAMBDA_SAMPLE_FRACTION, 0.3);
  shrinkwarp_options options = options_of(1e-6);
  shrinkwarp_result *first = NULL, *again = NULL;
  const shrinkwarp_batch* batch;
  shrinkwarp_summary summary;
  int64_t i, asked = 0, least = 0;
  CHECK_OK(shrinkwarp_summary_init(&summary, sizeof summary));

  /* From the solution nothing is left to do: the arrays of a result are a warm start. */
  options.solver = SHRINKWARP_SOLVER_FISTA;
  CHECK_OK(shrinkwarp_solve(context, dictionary, &rows, &lambda, &options, &summary, &first));
  CHECK(summary.iterations > 0 && summary.unconverged == 0);
  batch = shrinkwarp_result_batch(first);
  options.initial_offsets = batch->offsets;
  options.initial_indices = batch->indices;
  options.initial_values = batch->values;
  options.initial_entries = batch->offsets[batch->problems];
  CHECK_OK(shrinkwarp_solve(context, dictionary, &rows, &lambda, &options, &summary, &again));
  CHECK(summary.iterations == 0 && summary.unconverged == 0);
  CHECK(summary.nonzeros == batch->offsets[batch->problems]);
  shrinkwarp_result_destroy(again);

  /* What cannot be a warm start. */
  options.initial_entries -= 1;
  REFUSED(SHRINKWARP_SHAPE_ERROR, "shrinkwarp_solve", "wanted options.initial_entries",
          shrinkwarp_solve(context, dictionary, &rows, &lambda, &options, NULL, &again));
  options.initial_entries += 1;
  options.initial_values = NULL;
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_solve", "options.initial_values",
          shrinkwarp_solve(context, dictionary, &rows, &lambda, &options, NULL, &again));
  options.initial_offsets = NULL;
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_solve", "options.initial_offsets is NULL",
          shrinkwarp_solve(context, dictionary, &rows, &lambda, &options, NULL, &again));
  shrinkwarp_result_destroy(first);

  /* Not converging is a result. */
  options = options_of(1e-10);
  options.solver = SHRINKWARP_SOLVER_ISTA;
  options.max_iterations = 1;
  CHECK_OK(shrinkwarp_solve(context, dictionary, &rows, &lambda, &options, &summary, &first));
  CHECK(summary.problems == 9 && summary.unconverged == 9 && summary.worst_gap > 1e-10);
  batch = shrinkwarp_result_batch(first);
  for (i = 0; i < 9; ++i) {
    double objective, gap, energy;
    certify(&problems, batch, i, &objective, &gap, &energy);
    CHECK(batch->converged[i] == 0 && batch->iterations[i] == 1);
    CHECK_NEAR(batch->dual_gap[i], gap, 1e-12 * energy);
  }
  shrinkwarp_result_destroy(first);

  /* Problems may be left out. */
  options = options_of(1e-6);
  options.skip = skip_odd;
  options.skip_user = &asked;
  CHECK_OK(shrinkwarp_solve(context, dictionary, &rows, &lambda, &options, &summary, &first));
  batch = shrinkwarp_result_batch(first);
  CHECK(asked >= 9 && summary.problems == 5 && batch->problems == 5);
  for (i = 0; i < batch->problems; ++i) CHECK(batch->index[i] == 2 * i);
  shrinkwarp_result_destroy(first);

  /* The least memory is enough, and a byte less is refused. */
  options = options_of(1e-6);
  options.solver = SHRINKWARP_SOLVER_FISTA;
  CHECK_OK(shrinkwarp_least_memory(context, problems.n, problems.m, &options, &least));
  CHECK(least > problems.n * problems.m * 8);
  options.memory_limit = least;
  CHECK_OK(shrinkwarp_solve(context, dictionary, &rows, &lambda, &options, &summary, &first));
  shrinkwarp_result_destroy(first);
  options.memory_limit = least - 1;
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_solve", "memory_limit is ",
          shrinkwarp_solve(context, dictionary, &rows, &lambda, &options, &summary, &first));
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_least_memory", "bytes is NULL",
          shrinkwarp_least_memory(context, 3, 3, NULL, NULL));
  REFUSED(SHRINKWARP_SHAPE_ERROR, "shrinkwarp_least_memory", "0 x 3",
          shrinkwarp_least_memory(context, 0, 3, NULL, &least));
  REFUSED(SHRINKWARP_SHAPE_ERROR, "shrinkwarp_least_memory", "wanted 1 to",
          shrinkwarp_least_memory(context, INT64_MAX, INT64_MAX, NULL, &least));
  options.group_size = 4;
  REFUSED(SHRINKWARP_SHAPE_ERROR, "shrinkwarp_least_memory", "a multiple of the group size, 4",
          shrinkwarp_least_memory(context, 3, 3, &options, &least));

  /* No problems at all. */
  {
    const shrinkwarp_observations none = rows_of(NULL, 0, 12);
    CHECK_OK(shrinkwarp_solve(context, dictionary, &none, &lambda, NULL, &summary, &first));
    CHECK(summary.problems == 0 && shrinkwarp_result_batch(first)->problems == 0);
    CHECK(shrinkwarp_result_batch(first)->offsets[0] == 0);
    shrinkwarp_result_destroy(first);
  }
  shrinkwarp_dictionary_destroy(dictionary);
  shrinkwarp_context_destroy(context);
  free_problems(&problems);
}

/* ---- Callbacks ---- */

/* Observations of `problems` on request, until `fail_from`; at most so many are asked for at once. */
struct source {
  const struct problems* problems;
  int64_t fail_from;
  int64_t calls;
};

static int read_rows(void* user, int64_t first, int64_t count, double* X, int64_t row_stride) {
  struct source* const source = user;
  const int64_t n = source->problems->n;
  int64_t i;
  ++source->calls;
  if (first + count > source->fail_from) return 5;
  for (i = 0; i < count; ++i) memcpy(X + i * row_stride, source->problems->X + (first + i) * n, (size_t)n * sizeof *X);
  return 0;
}

/* Compares what comes with a result, bit for bit. */
struct sink {
  const shrinkwarp_batch* wanted;
  int64_t problems, calls, different, fail_after;
};

static int take(void* user, const shrinkwarp_batch* batch) {
  struct sink* const sink = user;
  int64_t b;
  ++sink->calls;
  for (b = 0; b < batch->problems && sink->wanted; ++b) {
    const int64_t i = batch->index[b], count = batch->offsets[b + 1] - batch->offsets[b];
    const int64_t from = sink->wanted->offsets[i];
    const size_t entries = (size_t)count;
    const int same =
        sink->wanted->index[i] == i && sink->wanted->offsets[i + 1] - from == count &&
        batch->atoms == sink->wanted->atoms &&
        memcmp(batch->indices + batch->offsets[b], sink->wanted->indices + from, entries * sizeof(int32_t)) == 0 &&
        memcmp(batch->values + batch->offsets[b], sink->wanted->values + from, entries * sizeof(double)) == 0 &&
        batch->lambda[b] == sink->wanted->lambda[i] && batch->objective[b] == sink->wanted->objective[i] &&
        batch->dual_gap[b] == sink->wanted->dual_gap[i] && batch->iterations[b] == sink->wanted->iterations[i] &&
        batch->converged[b] == sink->wanted->converged[i];
    sink->different += !same;
  }
  sink->problems += batch->problems;
  return sink->fail_after > 0 && sink->problems >= sink->fail_after ? 3 : 0;
}

struct watch {
  int64_t calls, done, total, cancel_at;
  int lines;
};

static int watch_progress(void* user, const shrinkwarp_progress* progress) {
  struct watch* const watch = user;
  ++watch->calls;
  if (progress->struct_size < sizeof *progress || progress->done < watch->done) watch->done = -1;
  watch->done = progress->done;
  watch->total = progress->total;
  return watch->cancel_at > 0 && progress->done >= watch->cancel_at;
}

static void watch_log(void* user, int32_t level, const char* line) {
  struct watch* const watch = user;
  watch->lines += (level == 0 || level == 1) && strlen(line) > 0;
}

static void test_streams(void) {
  struct problems problems = make_problems(4, 6, fewer_on_cuda(3000));
  float* const single = malloc((size_t)(problems.n * problems.N) * sizeof *single);
  shrinkwarp_context* const context = make_context(2);
  shrinkwarp_dictionary* const dictionary = make_dictionary(context, problems.D, problems.n, problems.m);
  const shrinkwarp_lambda lambda = lambda_of(SHRINKWARP_LAMBDA_SAMPLE_FRACTION, 0.5);
  shrinkwarp_observations asked = rows_of(NULL, problems.N, problems.n), held;
  shrinkwarp_options options = options_of(1e-6);
  shrinkwarp_result *whole = NULL, *part = NULL;
  shrinkwarp_summary summary;
  struct source source;
  struct sink sink;
  struct watch watch;
  int64_t i;
  for (i = 0; i < problems.n * problems.N; ++i) {
    single[i] = (float)problems.X[i];
    problems.X[i] = single[i];
  }
  CHECK_OK(shrinkwarp_summary_init(&summary, sizeof summary));
  memset(&source, 0, sizeof source);
  source.problems = &problems;
  source.fail_from = problems.N;
  asked.read = read_rows;
  asked.read_user = &source;
  asked.name = "sensors";
  held = rows_of(problems.X, problems.N, problems.n);

  CHECK_OK(shrinkwarp_solve(context, dictionary, &held, &lambda, &options, NULL, &whole));
  if (!whole) return;
  CHECK(shrinkwarp_result_batch(whole)->problems == problems.N);

  /* From a callback to a callback, with less memory, and from float: the same bits. */
  memset(&sink, 0, sizeof sink);
  sink.wanted = shrinkwarp_result_batch(whole);
  memset(&watch, 0, sizeof watch);
  options.on_progress = watch_progress;
  options.progress_user = &watch;
  options.on_log = watch_log;
  options.log_user = &watch;
  options.memory_limit /= 64;
  CHECK_OK(shrinkwarp_solve_stream(context, dictionary, &asked, &lambda, &options, take, &sink, &summary));
  CHECK(sink.problems == problems.N && sink.different == 0 && sink.calls > 1 && source.calls > 1);
  CHECK(summary.problems == problems.N && summary.nonzeros == sink.wanted->offsets[problems.N]);
  CHECK(watch.calls > 1 && watch.done == problems.N && watch.total == problems.N && watch.lines > 0);
  held.data = single;
  held.type = SHRINKWARP_FLOAT32;
  sink.problems = 0;
  CHECK_OK(shrinkwarp_solve_stream(context, dictionary, &held, &lambda, NULL, take, &sink, NULL));
  CHECK(sink.problems == problems.N && sink.different == 0);

  /* The progress callback stops a solve; what had finished is there. */
  watch.cancel_at = 1;
  sink.problems = 0;
  REFUSED(SHRINKWARP_CANCELLED, "shrinkwarp_solve_stream", "cancelled with ",
          shrinkwarp_solve_stream(context, dictionary, &asked, &lambda, &options, take, &sink, NULL));
  CHECK(sink.problems > 0 && sink.problems < problems.N && sink.different == 0);
  REFUSED(SHRINKWARP_CANCELLED, "shrinkwarp_solve", "cancelled with ",
          shrinkwarp_solve(context, dictionary, &asked, &lambda, &options, NULL, &part));
  CHECK(part != NULL);
  if (part) {
    sink.problems = 0;
    take(&sink, shrinkwarp_result_batch(part));
    CHECK(sink.problems > 0 && sink.problems < problems.N && sink.different == 0);
    shrinkwarp_result_destroy(part);
  }

  /* A sink ends a solve, and so does a source: after what it had given before. */
  sink.problems = 0;
  sink.fail_after = 1;
  REFUSED(SHRINKWARP_CALLBACK_ERROR, "shrinkwarp_solve_stream", "take returned 3",
          shrinkwarp_solve_stream(context, dictionary, &asked, &lambda, NULL, take, &sink, NULL));
  CHECK(sink.problems > 0 && sink.problems < problems.N);
  sink.problems = sink.fail_after = 0;
  source.fail_from = problems.N - problems.N / 6;
  REFUSED(SHRINKWARP_CALLBACK_ERROR, "shrinkwarp_solve_stream", "sensors: read returned 5",
          shrinkwarp_solve_stream(context, dictionary, &asked, &lambda, NULL, take, &sink, NULL));
  CHECK(sink.problems > 0 && sink.problems <= source.fail_from && sink.different == 0);
  source.fail_from = 0;
  part = whole;
  REFUSED(SHRINKWARP_CALLBACK_ERROR, "shrinkwarp_solve", "sensors: read returned 5",
          shrinkwarp_solve(context, dictionary, &asked, &lambda, NULL, NULL, &part));
  CHECK(part == NULL);
  {
    double largest;
    REFUSED(SHRINKWARP_CALLBACK_ERROR, "shrinkwarp_recording_lambda_max", "sensors: read returned 5",
            shrinkwarp_recording_lambda_max(context, dictionary, &asked, NULL, &largest));
  }

  /* A row that is no number is named. */
  problems.X[4 * 7 + 1] = NAN;
  held = rows_of(problems.X, problems.N, problems.n);
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_solve", "observations: entry 1 of row 7 is ",
          shrinkwarp_solve(context, dictionary, &held, &lambda, NULL, NULL, &part));

  shrinkwarp_result_destroy(whole);
  shrinkwarp_dictionary_destroy(dictionary);
  shrinkwarp_context_destroy(context);
  free(single);
  free_problems(&problems);
}

/* 32 GiB of zeros in float, of which no page is there until it is read: in double there is no room for a copy of all. */
static void test_rows_stay_where_they_are(void) {
  enum { n = 1024 };
  const size_t bytes = (size_t)32 << 30;
  void* const zeros = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  double* const D = noise_array(n * 2, 3);
  shrinkwarp_context* const context = make_context(1);
  shrinkwarp_dictionary* const dictionary = make_dictionary(context, D, n, 2);
  const shrinkwarp_lambda lambda = lambda_of(SHRINKWARP_LAMBDA_VALUE, 1);
  shrinkwarp_observations rows = rows_of(zeros, (int64_t)(bytes / sizeof(float) / n), n);
  shrinkwarp_options options = options_of(1e-6);
  shrinkwarp_result* result = NULL;
  struct watch watch;
  CHECK(zeros != MAP_FAILED);
  if (zeros == MAP_FAILED) rows.problems = 0;
  memset(&watch, 0, sizeof watch);
  watch.cancel_at = 1;
  rows.type = SHRINKWARP_FLOAT32;
  options.on_progress = watch_progress;
  options.progress_user = &watch;
  REFUSED(SHRINKWARP_CANCELLED, "shrinkwarp_solve", "of 8388608 problems",
          shrinkwarp_solve(context, dictionary, &rows, &lambda, &options, NULL, &result));
  CHECK(result && shrinkwarp_result_batch(result)->problems > 0);
  shrinkwarp_result_destroy(result);
  shrinkwarp_dictionary_destroy(dictionary);
  shrinkwarp_context_destroy(context);
  free(D);
  if (zeros != MAP_FAILED) munmap(zeros, bytes);
}

/* Callbacks have no business to throw; where one of C++ does all the same, it becomes a status, each of its own. */
static void test_exceptions(void) {
  static const double D[] = {1, 0, 0, 1};
  shrinkwarp_context* const context = make_context(1);
  shrinkwarp_dictionary* const dictionary = make_dictionary(context, D, 2, 2);
  const shrinkwarp_lambda lambda = lambda_of(SHRINKWARP_LAMBDA_VALUE, 1);
  shrinkwarp_observations rows = rows_of(NULL, 1, 2);
  shrinkwarp_result* result = NULL;
  int32_t status;
  rows.read = read_that_throws;
  rows.read_user = &status;
  for (status = SHRINKWARP_ERROR; status <= SHRINKWARP_IO_ERROR; ++status) {
    REFUSED(status, "shrinkwarp_solve", "thrown in a callback",
            shrinkwarp_solve(context, dictionary, &rows, &lambda, NULL, NULL, &result));
    CHECK((result != NULL) == (status == SHRINKWARP_CANCELLED));
    shrinkwarp_result_destroy(result);
  }
  status = THROW_BAD_ALLOC;
  REFUSED(SHRINKWARP_OUT_OF_MEMORY, "shrinkwarp_solve", "no more memory",
          shrinkwarp_solve(context, dictionary, &rows, &lambda, NULL, NULL, &result));
  status = THROW_A_NUMBER;
  REFUSED(SHRINKWARP_ERROR, "shrinkwarp_solve", "none of the standard library's",
          shrinkwarp_solve(context, dictionary, &rows, &lambda, NULL, NULL, &result));
  status = THROW_A_LONG_MESSAGE;
  REFUSED(SHRINKWARP_ERROR, "shrinkwarp_solve", "xxxx",
          shrinkwarp_solve(context, dictionary, &rows, &lambda, NULL, NULL, &result));
  CHECK(strlen(shrinkwarp_last_error()) == 1023);
  shrinkwarp_dictionary_destroy(dictionary);
  shrinkwarp_context_destroy(context);
}

/* ---- What is refused ---- */

static void test_contexts(void) {
  shrinkwarp_context *context = NULL, *other = (shrinkwarp_context*)&context;
  CHECK_OK(shrinkwarp_context_create_cpu(2, &context));
  CHECK(shrinkwarp_context_is_cuda(context) == 0 && strlen(shrinkwarp_context_description(context)) > 0);
  shrinkwarp_context_destroy(context);
  CHECK_OK(shrinkwarp_context_create_best(&context));
  CHECK(shrinkwarp_context_is_cuda(context) == (shrinkwarp_cuda_device_count() > 0));
  shrinkwarp_context_destroy(context);
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_context_create_cpu", "-1", shrinkwarp_context_create_cpu(-1, &other));
  CHECK(other == NULL);
  REFUSED(SHRINKWARP_BACKEND_UNAVAILABLE, "shrinkwarp_context_create_cuda", "",
          shrinkwarp_context_create_cuda(1000, &other));
  if (strcmp(device, "cuda") == 0) {
    CHECK_OK(shrinkwarp_context_create_cuda_on_stream(NULL, &context));
    CHECK(shrinkwarp_context_is_cuda(context) == 1);
    shrinkwarp_context_destroy(context);
  } else if (shrinkwarp_cuda_device_count() == 0) {
    REFUSED(SHRINKWARP_BACKEND_UNAVAILABLE, "shrinkwarp_context_create_cuda", "",
            shrinkwarp_context_create_cuda(0, &other));
    REFUSED(SHRINKWARP_BACKEND_UNAVAILABLE, "shrinkwarp_context_create_cuda_on_stream", "",
            shrinkwarp_context_create_cuda_on_stream(NULL, &other));
  }
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_context_create_cpu", "context is NULL",
          shrinkwarp_context_create_cpu(1, NULL));
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_context_create_cuda", "context is NULL",
          shrinkwarp_context_create_cuda(0, NULL));
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_context_create_cuda_on_stream", "context is NULL",
          shrinkwarp_context_create_cuda_on_stream(NULL, NULL));
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_context_create_best", "context is NULL",
          shrinkwarp_context_create_best(NULL));
}

static void test_null_handles(void) {
  shrinkwarp_context_destroy(NULL);
  shrinkwarp_dictionary_destroy(NULL);
  shrinkwarp_result_destroy(NULL);
  CHECK(shrinkwarp_context_is_cuda(NULL) == 0 && strcmp(shrinkwarp_context_description(NULL), "") == 0);
  CHECK(shrinkwarp_dictionary_rows(NULL) == 0 && shrinkwarp_dictionary_atoms(NULL) == 0);
  CHECK(shrinkwarp_result_batch(NULL) == NULL);
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_matrix_init", "matrix is NULL",
          shrinkwarp_matrix_init(NULL, sizeof(shrinkwarp_matrix)));
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_observations_init", "observations is NULL",
          shrinkwarp_observations_init(NULL, sizeof(shrinkwarp_observations)));
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_lambda_init", "lambda is NULL",
          shrinkwarp_lambda_init(NULL, sizeof(shrinkwarp_lambda)));
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_options_init", "options is NULL",
          shrinkwarp_options_init(NULL, sizeof(shrinkwarp_options)));
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_summary_init", "summary is NULL",
          shrinkwarp_summary_init(NULL, sizeof(shrinkwarp_summary)));
}

static void test_refused_dictionaries(void) {
  double entries[] = {1, 0, 0, 1, 1, 1};
  shrinkwarp_context* const context = make_context(1);
  shrinkwarp_dictionary* dictionary = (shrinkwarp_dictionary*)&context;
  const shrinkwarp_matrix good = matrix_of(entries, SHRINKWARP_FLOAT64, 2, 3);
  shrinkwarp_matrix D = good;
#define DICTIONARY(status, words) \
  REFUSED(status, "shrinkwarp_dictionary_create", words, shrinkwarp_dictionary_create(context, &D, &dictionary))
  D.data = NULL;
  DICTIONARY(SHRINKWARP_VALUE_ERROR, "D.data is NULL");
  CHECK(dictionary == NULL);
  D = good;
  D.type = 7;
  DICTIONARY(SHRINKWARP_VALUE_ERROR, "D.type is 7, wanted SHRINKWARP_FLOAT32");
  D = good;
  D.reserved = 1;
  DICTIONARY(SHRINKWARP_VALUE_ERROR, "D.reserved is 1");
  D = good;
  D.rows = 0;
  DICTIONARY(SHRINKWARP_SHAPE_ERROR, "D is 0 x 3");
  D.rows = -2;
  DICTIONARY(SHRINKWARP_SHAPE_ERROR, "D is -2 x 3");
  D.rows = D.atoms = INT64_MAX;
  DICTIONARY(SHRINKWARP_SHAPE_ERROR, "wanted fewer numbers");
  D.rows = 1 << 10;
  D.atoms = (int64_t)1 << 48;
  D.type = SHRINKWARP_FLOAT32;
  DICTIONARY(SHRINKWARP_OUT_OF_MEMORY, "2305843009213693952 bytes"); /* in float64, before an entry is read */
  D = good;
  D.row_stride = 2; /* less than a row */
  D.atom_stride = 1;
  DICTIONARY(SHRINKWARP_SHAPE_ERROR, "the strides 2 from row to row and 1 from atom to atom");
  D.row_stride = 1;
  DICTIONARY(SHRINKWARP_SHAPE_ERROR, "the strides 1");
  D.row_stride = -3;
  DICTIONARY(SHRINKWARP_SHAPE_ERROR, "the strides -3");
  D.row_stride = 3;
  D.atom_stride = 0;
  DICTIONARY(SHRINKWARP_SHAPE_ERROR, "the strides 3");
  D.row_stride = INT64_MAX;
  D.atom_stride = 1;
  DICTIONARY(SHRINKWARP_SHAPE_ERROR, "the strides 9223372036854775807");
  D = good;
  entries[4] = NAN;
  DICTIONARY(SHRINKWARP_VALUE_ERROR, "D: entry (1, 1) is nan");
  entries[4] = 1;
#undef DICTIONARY
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_dictionary_create", "D is NULL",
          shrinkwarp_dictionary_create(context, NULL, &dictionary));
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_dictionary_create", "context is NULL",
          shrinkwarp_dictionary_create(NULL, &D, &dictionary));
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_dictionary_create", "dictionary is NULL",
          shrinkwarp_dictionary_create(context, &D, NULL));
  shrinkwarp_context_destroy(context);
}

static void test_refused_solves(void) {
  static const double D[] = {1, 0, 0, 1}, X[] = {3, -0.5}, weights[] = {1, -1, 1};
  shrinkwarp_context* const context = make_context(1);
  shrinkwarp_dictionary* const dictionary = make_dictionary(context, D, 2, 2);
  const shrinkwarp_observations good_rows = rows_of(X, 1, 2);
  const shrinkwarp_lambda good_lambda = lambda_of(SHRINKWARP_LAMBDA_VALUE, 1);
  const shrinkwarp_options good_options = options_of(1e-6);
  shrinkwarp_observations rows = good_rows;
  shrinkwarp_lambda lambda = good_lambda;
  shrinkwarp_options options = good_options;
  shrinkwarp_result* result = NULL;
  shrinkwarp_context* host = NULL;
  struct sink sink;
  memset(&sink, 0, sizeof sink);
#define SOLVE(status, words)                                                                            \
  do {                                                                                                  \
    result = (shrinkwarp_result*)&sink;                                                                 \
    REFUSED(status, "shrinkwarp_solve", words,                                                          \
            shrinkwarp_solve(context, dictionary, &rows, &lambda, &options, NULL, &result));            \
    CHECK(result == NULL);                                                                              \
    REFUSED(status, "shrinkwarp_solve_stream", words,                                                   \
            shrinkwarp_solve_stream(context, dictionary, &rows, &lambda, &options, take, &sink, NULL)); \
    rows = good_rows;                                                                                   \
    lambda = good_lambda;                                                                               \
    options = good_options;                                                                             \
  } while (0)
  rows.data = NULL;
  SOLVE(SHRINKWARP_VALUE_ERROR, "observations.data and observations.read are NULL");
  rows.read = read_rows;
  SOLVE(SHRINKWARP_VALUE_ERROR, "observations have data and read");
  rows.type = 0;
  SOLVE(SHRINKWARP_VALUE_ERROR, "observations.type is 0");
  rows.reserved = -1;
  SOLVE(SHRINKWARP_VALUE_ERROR, "observations.reserved is -1");
  rows.problems = -1;
  SOLVE(SHRINKWARP_SHAPE_ERROR, "observations.problems is -1");
  rows.dimension = 0;
  SOLVE(SHRINKWARP_SHAPE_ERROR, "observations.dimension is 0");
  rows.dimension = 3;
  SOLVE(SHRINKWARP_SHAPE_ERROR, "length 3, wanted the dictionary's 2");
  rows.row_stride = 1;
  SOLVE(SHRINKWARP_SHAPE_ERROR, "observations.row_stride is 1");
  rows.problems = INT64_MAX;
  SOLVE(SHRINKWARP_SHAPE_ERROR, "wanted fewer than memory can hold");
  lambda.kind = 0;
  SOLVE(SHRINKWARP_VALUE_ERROR, "lambda.kind is 0");
  lambda.reserved = 2;
  SOLVE(SHRINKWARP_VALUE_ERROR, "lambda.reserved is 2");
  lambda.number = -1;
  SOLVE(SHRINKWARP_VALUE_ERROR, "the value is -1, wanted a finite number >= 0");
  lambda.number = NAN;
  SOLVE(SHRINKWARP_VALUE_ERROR, "wanted a finite number");
  lambda.kind = SHRINKWARP_LAMBDA_SAMPLE_FRACTION;
  lambda.number = 0;
  SOLVE(SHRINKWARP_VALUE_ERROR, "wanted a finite number > 0");
  lambda.kind = SHRINKWARP_LAMBDA_RECORDING_FRACTION;
  lambda.lambda_max = NAN;
  SOLVE(SHRINKWARP_VALUE_ERROR, "lambda.lambda_max is ");
  lambda.kind = SHRINKWARP_LAMBDA_PER_PROBLEM;
  SOLVE(SHRINKWARP_SHAPE_ERROR, "lambda.value_count is 0, wanted one for each of 1");
  lambda.kind = SHRINKWARP_LAMBDA_PER_PROBLEM;
  lambda.value_count = 1;
  SOLVE(SHRINKWARP_VALUE_ERROR, "lambda.values is NULL");
  lambda.kind = SHRINKWARP_LAMBDA_PER_PROBLEM;
  lambda.values = weights + 1;
  lambda.value_count = 1;
  SOLVE(SHRINKWARP_VALUE_ERROR, "lambda of problem 0 is -1");
  lambda.kind = SHRINKWARP_LAMBDA_MAX_NONZEROS;
  options.solver = SHRINKWARP_SOLVER_ISTA;
  SOLVE(SHRINKWARP_VALUE_ERROR, "another solver");
  options.solver = 5;
  SOLVE(SHRINKWARP_VALUE_ERROR, "options.solver is 5");
  options.reserved = 1;
  SOLVE(SHRINKWARP_VALUE_ERROR, "options.reserved is 1");
  options.gap = 0;
  SOLVE(SHRINKWARP_VALUE_ERROR, "the gap is 0, wanted at least 2e-14");
  options.max_iterations = -1;
  SOLVE(SHRINKWARP_VALUE_ERROR, "max_iterations is -1");
  options.memory_limit = -1;
  SOLVE(SHRINKWARP_VALUE_ERROR, "memory_limit is -1");
  options.weights = weights;
  SOLVE(SHRINKWARP_SHAPE_ERROR, "options.weight_count is 0");
  options.weights = weights;
  options.weight_count = 3;
  SOLVE(SHRINKWARP_SHAPE_ERROR, "options.weight_count is 3");
  options.weight_count = 2;
  SOLVE(SHRINKWARP_SHAPE_ERROR, "options.weight_count is 2, wanted 0");
  options.weights = weights;
  options.weight_count = 1;
  SOLVE(SHRINKWARP_SHAPE_ERROR, "found 1 weights, wanted one for each of 2");
  options.weights = weights;
  options.weight_count = 2;
  SOLVE(SHRINKWARP_VALUE_ERROR, "the weight of atom 1 is -1");
  options.group_size = 0;
  SOLVE(SHRINKWARP_VALUE_ERROR, "the group size is 0");
  options.ridge = -1;
  SOLVE(SHRINKWARP_VALUE_ERROR, "the ridge is -1");
#undef SOLVE
  result = NULL;
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_solve", "context is NULL",
          shrinkwarp_solve(NULL, dictionary, &rows, &lambda, NULL, NULL, &result));
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_solve", "dictionary is NULL",
          shrinkwarp_solve(context, NULL, &rows, &lambda, NULL, NULL, &result));
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_solve", "observations is NULL",
          shrinkwarp_solve(context, dictionary, NULL, &lambda, NULL, NULL, &result));
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_solve", "lambda is NULL",
          shrinkwarp_solve(context, dictionary, &rows, NULL, NULL, NULL, &result));
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_solve", "result is NULL",
          shrinkwarp_solve(context, dictionary, &rows, &lambda, NULL, NULL, NULL));
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_solve_stream", "take is NULL",
          shrinkwarp_solve_stream(context, dictionary, &rows, &lambda, NULL, NULL, NULL, NULL));
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_solve_stream", "dictionary is NULL",
          shrinkwarp_solve_stream(context, NULL, &rows, &lambda, NULL, take, NULL, NULL));
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_lambda_max", "context is NULL",
          shrinkwarp_lambda_max(NULL, dictionary, &rows, NULL, NULL, 0));
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_least_memory", "context is NULL",
          shrinkwarp_least_memory(NULL, 1, 1, NULL, NULL));
  if (strcmp(device, "cuda") == 0) {
    double largest;
    CHECK_OK(shrinkwarp_context_create_cpu(1, &host));
    REFUSED(SHRINKWARP_DEVICE_ERROR, "shrinkwarp_solve", "the dictionary lies on cuda:0, wanted cpu",
            shrinkwarp_solve(host, dictionary, &rows, &lambda, NULL, NULL, &result));
    REFUSED(SHRINKWARP_DEVICE_ERROR, "shrinkwarp_recording_lambda_max", "the dictionary lies on cuda:0, wanted cpu",
            shrinkwarp_recording_lambda_max(host, dictionary, &rows, NULL, &largest));
    shrinkwarp_context_destroy(host);
  }
  /* After all that everything is as it was. */
  CHECK_OK(shrinkwarp_solve(context, dictionary, &rows, &lambda, &options, NULL, &result));
  shrinkwarp_result_destroy(result);
  shrinkwarp_dictionary_destroy(dictionary);
  shrinkwarp_context_destroy(context);
}

/* ---- Threads ---- */

struct worker {
  const struct problems* problems;
  shrinkwarp_dictionary* shared; /* NULL for one of its own */
  struct sink sink;
  shrinkwarp_status status;
  char message[64];
};

static void* work(void* argument) {
  struct worker* const worker = argument;
  shrinkwarp_context* const context = make_context(1);
  shrinkwarp_dictionary* const own =
      worker->shared ? NULL : make_dictionary(context, worker->problems->D, worker->problems->n, worker->problems->m);
  const shrinkwarp_observations rows = rows_of(worker->problems->X, worker->problems->N, worker->problems->n);
  const shrinkwarp_lambda lambda = lambda_of(SHRINKWARP_LAMBDA_SAMPLE_FRACTION, 0.3);
  worker->status =
      shrinkwarp_solve_stream(context, own ? own : worker->shared, &rows, &lambda, NULL, take, &worker->sink, NULL);
  /* This thread's last error is its own. */
  strncpy(worker->message, shrinkwarp_last_error(), sizeof worker->message - 1);
  shrinkwarp_dictionary_destroy(own);
  shrinkwarp_context_destroy(context);
  return NULL;
}

static void test_threads(void) {
  struct problems problems = make_problems(8, 20, fewer_on_cuda(300));
  shrinkwarp_context* const context = make_context(1);
  shrinkwarp_dictionary* const dictionary = make_dictionary(context, problems.D, problems.n, problems.m);
  const shrinkwarp_observations rows = rows_of(problems.X, problems.N, problems.n);
  const shrinkwarp_lambda lambda = lambda_of(SHRINKWARP_LAMBDA_SAMPLE_FRACTION, 0.3);
  shrinkwarp_result* result = NULL;
  struct worker workers[4];
  pthread_t threads[4];
  int k;
  CHECK_OK(shrinkwarp_solve(context, dictionary, &rows, &lambda, NULL, NULL, &result));
  shrinkwarp_context_destroy(context); /* the dictionary stays usable */
  REFUSED(SHRINKWARP_VALUE_ERROR, "shrinkwarp_solve_stream", "take is NULL",
          shrinkwarp_solve_stream(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL));
  memset(workers, 0, sizeof workers);
  for (k = 0; k < 4; ++k) {
    workers[k].problems = &problems;
    workers[k].shared = k < 2 ? dictionary : NULL;
    workers[k].sink.wanted = shrinkwarp_result_batch(result);
    if (pthread_create(&threads[k], NULL, work, &workers[k]) != 0) abort();
  }
  for (k = 0; k < 4; ++k) {
    pthread_join(threads[k], NULL);
    CHECK(strcmp(workers[k].message, "") == 0);
    CHECK(workers[k].status == SHRINKWARP_OK && workers[k].sink.problems == problems.N);
    CHECK(workers[k].sink.different == 0);
  }
  CHECK(strstr(shrinkwarp_last_error(), "take is NULL") != NULL);
  shrinkwarp_result_destroy(result);
  shrinkwarp_dictionary_destroy(dictionary);
  free_problems(&problems);
}

int main(int argc, char** argv) {
  static const struct {
    const char* name;
    void (*run)(void);
  } tests[] = {{"versions", test_versions}, /* first: nothing has failed yet */
               {"layout", test_layout},
               {"structs of other versions", test_structs_of_other_versions},
               {"soft-thresholds", test_soft_thresholds},
               {"layouts of dictionaries", test_layouts_of_dictionaries},
               {"penalties", test_penalties},
               {"lambda rules", test_lambda_rules},
               {"lambda_max", test_lambda_max},
               {"certificates", test_certificates},
               {"options", test_options},
               {"streams", test_streams},
               {"rows stay where they are", test_rows_stay_where_they_are},
               {"exceptions", test_exceptions},
               {"contexts", test_contexts},
               {"NULL handles", test_null_handles},
               {"refused dictionaries", test_refused_dictionaries},
               {"refused solves", test_refused_solves},
               {"threads", test_threads}};
  size_t k;
  if (argc != 2 || (strcmp(argv[1], "cpu") != 0 && strcmp(argv[1], "cuda") != 0)) {
    printf("usage: capi_test cpu|cuda\n");
    return 2;
  }
  device = argv[1];
  if (strcmp(device, "cuda") == 0 && shrinkwarp_cuda_device_count() == 0) {
    const char* const required = getenv("SHRINKWARP_REQUIRE_GPU");
    printf("skipped: there is no CUDA device\n");
    return required && strcmp(required, "1") == 0 ? 1 : 77;
  }
  for (k = 0; k < sizeof tests / sizeof *tests; ++k) {
    const int before = failures;
    tests[k].run();
    printf("%s: %s\n", failures == before ? "passed" : "FAILED", tests[k].name);
  }
  return failures == 0 ? 0 : 1;
}
