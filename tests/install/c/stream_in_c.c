/* Any number of observations, made as they are asked for; results as they finish; a stop in the middle. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <shrinkwarp/shrinkwarp.h>

enum { n = 4, m = 6, N = 5000 };

/* Writes observations first .. first + count - 1. */
static int read_sensors(void* user, int64_t first, int64_t count, double* X, int64_t row_stride) {
  (void)user;
  for (int64_t i = 0; i < count; ++i)
    for (int64_t j = 0; j < n; ++j) X[i * row_stride + j] = (double)((first + i) * 37 % 101 + j * 29 % 13) - 50;
  return 0; /* anything else ends the solve */
}

struct totals {
  int64_t problems, nonzeros;
};

static int add_up(void* user, const shrinkwarp_batch* batch) {
  struct totals* totals = user;
  totals->problems += batch->problems;
  totals->nonzeros += batch->offsets[batch->problems];
  return 0;
}

/* Asks the solve to stop when the first problems have finished. */
static int stop_soon(void* user, const shrinkwarp_progress* progress) {
  (void)user;
  return progress->done > 0;
}

#define EXPECT(condition)                                                                         \
  do {                                                                                            \
    if (!(condition)) {                                                                           \
      printf("line %d: does not hold: %s (%s)\n", __LINE__, #condition, shrinkwarp_last_error()); \
      return 1;                                                                                   \
    }                                                                                             \
  } while (0)

int main(void) {
  float D[m][n]; /* an atom a row */
  for (int j = 0; j < m; ++j)
    for (int i = 0; i < n; ++i) D[j][i] = (float)((7 * j + 5 * i * i + i * j) % 11 - 5);

  shrinkwarp_context* context;
  shrinkwarp_dictionary* dictionary;
  shrinkwarp_matrix matrix;
  shrinkwarp_observations observations;
  shrinkwarp_lambda lambda;
  shrinkwarp_options options;
  shrinkwarp_summary summary;
  EXPECT(shrinkwarp_context_create_cpu(2, &context) == SHRINKWARP_OK);
  EXPECT(shrinkwarp_matrix_init(&matrix, sizeof matrix) == SHRINKWARP_OK);
  matrix.data = D;
  matrix.type = SHRINKWARP_FLOAT32;
  matrix.rows = n;
  matrix.atoms = m;
  matrix.row_stride = 1;
  matrix.atom_stride = n;
  EXPECT(shrinkwarp_dictionary_create(context, &matrix, &dictionary) == SHRINKWARP_OK);
  EXPECT(shrinkwarp_lambda_init(&lambda, sizeof lambda) == SHRINKWARP_OK);
  lambda.number = 0.5; /* of each observation's lambda_max */
  EXPECT(shrinkwarp_options_init(&options, sizeof options) == SHRINKWARP_OK);
  EXPECT(shrinkwarp_summary_init(&summary, sizeof summary) == SHRINKWARP_OK);

  shrinkwarp_observations_init(&observations, sizeof observations);
  observations.problems = N;
  observations.dimension = n;
  observations.read = read_sensors;
  observations.name = "sensors"; /* in messages */

  struct totals totals = {0, 0};
  shrinkwarp_status status =
      shrinkwarp_solve_stream(context, dictionary, &observations, &lambda, &options, add_up, &totals, &summary);
  EXPECT(status == SHRINKWARP_OK && summary.unconverged == 0);
  EXPECT(totals.problems == N && totals.nonzeros == summary.nonzeros && totals.nonzeros > 0);

  struct totals first = {0, 0};
  options.on_progress = stop_soon;
  status = shrinkwarp_solve_stream(context, dictionary, &observations, &lambda, &options, add_up, &first, NULL);
  if (status == SHRINKWARP_CANCELLED) printf("%s\n", shrinkwarp_last_error());
  EXPECT(status == SHRINKWARP_CANCELLED && first.problems > 0 && first.problems < N);

  lambda.number = -1;
  status = shrinkwarp_solve_stream(context, dictionary, &observations, &lambda, NULL, add_up, &first, NULL);
  EXPECT(status == SHRINKWARP_VALUE_ERROR && strstr(shrinkwarp_last_error(), "wanted a finite number > 0"));

  shrinkwarp_dictionary_destroy(dictionary);
  shrinkwarp_context_destroy(context);
  return 0;
}
