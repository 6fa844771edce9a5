/* Two Lasso problems with the identity as dictionary, whose solution is known. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <shrinkwarp/shrinkwarp.h>

/* Ends the program where a call has failed. */
static void must(shrinkwarp_status status) {
  if (status == SHRINKWARP_OK) return;
  fprintf(stderr, "%s: %s\n", shrinkwarp_status_name(status), shrinkwarp_last_error());
  exit(1);
}

int main(void) {
  /* D [n, m] and observations row by row. float32 and strides of all kinds are taken, too. */
  const double D[3][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}};
  const double X[2][3] = {{3, -0.5, 0}, {-2, 1, 4}};

  shrinkwarp_context* context;
  must(shrinkwarp_context_create_best(&context));

  shrinkwarp_matrix matrix;
  must(shrinkwarp_matrix_init(&matrix, sizeof matrix));
  matrix.data = D;
  matrix.rows = 3;
  matrix.atoms = 3;
  shrinkwarp_dictionary* dictionary;
  must(shrinkwarp_dictionary_create(context, &matrix, &dictionary));

  shrinkwarp_observations observations;
  must(shrinkwarp_observations_init(&observations, sizeof observations));
  observations.data = X;
  observations.problems = 2;
  observations.dimension = 3;

  shrinkwarp_lambda lambda;
  must(shrinkwarp_lambda_init(&lambda, sizeof lambda));
  lambda.kind = SHRINKWARP_LAMBDA_VALUE;
  lambda.number = 1.25;

  shrinkwarp_options options; /* NULL in its place stands for the defaults */
  must(shrinkwarp_options_init(&options, sizeof options));
  options.gap = 1e-9;

  shrinkwarp_result* result;
  must(shrinkwarp_solve(context, dictionary, &observations, &lambda, &options, NULL, &result));
  const shrinkwarp_batch* batch = shrinkwarp_result_batch(result);
  for (int64_t i = 0; i < batch->problems; ++i) {
    printf("problem %d: objective %g, at most %g from the optimum:", (int)i, batch->objective[i], batch->dual_gap[i]);
    for (int64_t k = batch->offsets[i]; k < batch->offsets[i + 1]; ++k)
      printf(" z[%d] = %g", (int)batch->indices[k], batch->values[k]);
    printf("\n");
  }

  /* Soft-thresholds: (1.75, 0, 0) and (-0.75, 0, 2.75). */
  int right = batch->offsets[1] == 1 && batch->offsets[2] == 3;
  const double wanted[] = {1.75, -0.75, 2.75};
  for (int k = 0; k < 3 && right; ++k) {
    const double error = batch->values[k] - wanted[k];
    right = error * error / 2 <= 1e-9 * 10.5 && batch->converged[k > 0]; /* the gap, relative to 1/2 ||x||^2 */
  }

  shrinkwarp_result_destroy(result);
  shrinkwarp_dictionary_destroy(dictionary);
  shrinkwarp_context_destroy(context);
  return right ? 0 : 1;
}
