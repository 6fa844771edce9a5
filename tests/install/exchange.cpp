// A plugin with a C interface that takes and gives arrays by DLPack: no copy of what it is given, none of its result.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <utility>
#include <vector>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/dlpack.hpp>

namespace {
char last_error[512];
}

/// Why the last call gave a null pointer.
extern "C" const char* exchange_error() {
  return last_error;
}

/// Codes (N, m) of the observations X (N, n), both in C order, for the dictionary D (n, m) in Fortran order, all float64 on
/// the CPU. D and X, which are not null, are given back here in any case. Null when something is wrong.
extern "C" DLManagedTensor* exchange_solve(DLManagedTensor* D, DLManagedTensor* X, double lambda) {
  try {
    const shrinkwarp::BorrowedArray dictionary_array(D, "D");
    const shrinkwarp::BorrowedArray observations(X, "X");
    const shrinkwarp::Context context = shrinkwarp::Context::cpu();
    const shrinkwarp::Dictionary dictionary(context, dictionary_array.matrix<const double>());
    const shrinkwarp::LassoBatch batch =
        shrinkwarp::solve_lasso(context, dictionary, observations.rows_as_columns<const double>(),
                                shrinkwarp::LambdaRule::value(lambda), shrinkwarp::LassoOptions{});

    auto codes = std::make_shared<std::vector<double>>(dictionary.atoms() * batch.size());
    const shrinkwarp::MatrixView<double> Z{codes->data(), dictionary.atoms(), batch.size(), dictionary.atoms(), {}};
    for (std::int64_t i = 0; i < batch.size(); ++i)
      for (std::int64_t k = batch.codes.offsets[i]; k < batch.codes.offsets[i + 1]; ++k)
        Z(batch.codes.indices[k], i) = batch.codes.values[k];
    return shrinkwarp::lend_unversioned(Z, std::move(codes)).release();
  } catch (const std::exception& error) {
    std::snprintf(last_error, sizeof(last_error), "%s", error.what());
    return nullptr;
  }
}
