// The functions of shrinkwarp.h: arguments from C, the library's own call, errors to C. The header says what they do.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <shrinkwarp/tools/capi/shrinkwarp.h>
#include <shrinkwarp/config.hpp>
#include <shrinkwarp/models/lasso/checks.hpp>
#include <shrinkwarp/models/lasso/dictionary.hpp>
#include <shrinkwarp/models/lasso/in_memory.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/tools/capi/callbacks.hpp>
#include <shrinkwarp/tools/capi/structs.hpp>

struct shrinkwarp_context {
  std::shared_ptr<const shrinkwarp::Context> context;
  std::string description;
};

struct shrinkwarp_dictionary {
  std::shared_ptr<const shrinkwarp::Context> context;  // outlives what was made with it
  shrinkwarp::Dictionary dictionary;
};

struct shrinkwarp_result {
  shrinkwarp::LassoBatch problems;
  shrinkwarp_batch view;
};

namespace shrinkwarp::c {
namespace {

#define SHRINKWARP_TEXT_OF(number) #number
#define SHRINKWARP_TEXT(number) SHRINKWARP_TEXT_OF(number)
static_assert(std::string_view(kVersion) == SHRINKWARP_TEXT(SHRINKWARP_VERSION_MAJOR) "." SHRINKWARP_TEXT(
                                                SHRINKWARP_VERSION_MINOR) "." SHRINKWARP_TEXT(SHRINKWARP_VERSION_PATCH),
              "shrinkwarp.h has the version of CMakeLists.txt");
#undef SHRINKWARP_TEXT
#undef SHRINKWARP_TEXT_OF

thread_local char last_error[1024];

/// Keeps the words of the exception that is being handled.
shrinkwarp_status failed(const char* function) noexcept {
  const auto keep = [function](shrinkwarp_status status, const char* words) {
    std::snprintf(last_error, sizeof last_error, "%s: %s", function, words);
    return status;
  };
  try {
    throw;
  } catch (const CallbackError& error) {
    return keep(SHRINKWARP_CALLBACK_ERROR, error.what());
  } catch (const ShapeError& error) {
    return keep(SHRINKWARP_SHAPE_ERROR, error.what());
  } catch (const DeviceError& error) {
    return keep(SHRINKWARP_DEVICE_ERROR, error.what());
  } catch (const ValueError& error) {
    return keep(SHRINKWARP_VALUE_ERROR, error.what());
  } catch (const BackendUnavailable& error) {
    return keep(SHRINKWARP_BACKEND_UNAVAILABLE, error.what());
  } catch (const CudaError& error) {
    return keep(SHRINKWARP_CUDA_ERROR, error.what());
  } catch (const CublasError& error) {
    return keep(SHRINKWARP_CUBLAS_ERROR, error.what());
  } catch (const Cancelled& error) {
    return keep(SHRINKWARP_CANCELLED, error.what());
  } catch (const OutOfMemory& error) {
    return keep(SHRINKWARP_OUT_OF_MEMORY, error.what());
  } catch (const IoError& error) {
    return keep(SHRINKWARP_IO_ERROR, error.what());
  } catch (const std::bad_alloc&) {
    return keep(SHRINKWARP_OUT_OF_MEMORY, "the host has no more memory");
  } catch (const std::exception& error) {
    return keep(SHRINKWARP_ERROR, error.what());
  } catch (...) {
    return keep(SHRINKWARP_ERROR, "an exception that is none of the standard library's");
  }
}

/// Runs a function's body; exceptions become its status.
template <class Body>
shrinkwarp_status guarded(const char* function, Body&& body) noexcept {
  try {
    body();
    return SHRINKWARP_OK;
  } catch (...) {
    return failed(function);
  }
}

template <class T>
T& required(T* pointer, const char* name) {
  SHRINKWARP_REQUIRE(pointer, ValueError, name, " is NULL, wanted a pointer");
  return *pointer;
}

/// Where a new handle goes, which is NULL until there is one.
template <class T>
T*& place_for(T** handle, const char* name) {
  required(handle, name) = nullptr;
  return *handle;
}

template <class Make>
shrinkwarp_status create_context(const char* function, shrinkwarp_context** context, Make&& make) noexcept {
  return guarded(function, [&] {
    shrinkwarp_context*& place = place_for(context, "context");
    auto made = std::make_unique<shrinkwarp_context>();
    made->context = std::make_shared<const Context>(make());
    made->description = made->context->description();
    place = made.release();
  });
}

/// D in float64 with adjacent entries of a column. `copy` holds it where it is not that already.
template <class T>
MatrixView<const double> columns_of(const shrinkwarp_matrix& D, Tensor<double>& copy) {
  const T* const data = static_cast<const T*>(D.data);
  if constexpr (std::is_same_v<T, double>)
    if (D.row_stride == 1 && D.atom_stride >= D.rows) return {data, D.rows, D.atoms, D.atom_stride, {}};
  copy = Tensor<double>(Context::cpu(1), D.rows, D.atoms);
  for (std::int64_t j = 0; j < D.atoms; ++j) {
    double* const column = copy.matrix().column(j);
    for (std::int64_t i = 0; i < D.rows; ++i) column[i] = data[i * D.row_stride + j * D.atom_stride];
  }
  return copy.matrix();
}

MatrixView<const double> columns_of(const shrinkwarp_matrix* argument, Tensor<double>& copy) {
  shrinkwarp_matrix D = read_struct(argument, "D");
  SHRINKWARP_REQUIRE(D.data, ValueError, "D.data is NULL, wanted the entries");
  SHRINKWARP_REQUIRE(D.reserved == 0, ValueError, "D.reserved is ", D.reserved, ", wanted 0");
  SHRINKWARP_REQUIRE(D.rows >= 1 && D.atoms >= 1, ShapeError, "D is ", D.rows, " x ", D.atoms,
                     ", wanted at least one row and one atom");
  constexpr std::int64_t kMostNumbers = std::int64_t{1} << 60;
  SHRINKWARP_REQUIRE(D.atoms <= kMostNumbers / D.rows, ShapeError, "D is ", D.rows, " x ", D.atoms,
                     ", wanted fewer numbers than memory can hold");
  if (D.row_stride == 0 && D.atom_stride == 0) {
    D.row_stride = D.atoms;
    D.atom_stride = 1;
  }
  // One stride passes over what the other walks through.
  const auto passes = [](std::int64_t stride, std::int64_t count, std::int64_t inner, std::int64_t inner_count) {
    return stride >= 1 && stride <= kMostNumbers / count && inner >= 1 && (stride - 1) / inner >= inner_count - 1;
  };
  SHRINKWARP_REQUIRE(
      passes(D.row_stride, D.rows, D.atom_stride, D.atoms) || passes(D.atom_stride, D.atoms, D.row_stride, D.rows),
      ShapeError, "D of ", D.rows, " x ", D.atoms, " has the strides ", D.row_stride, " from row to row and ",
      D.atom_stride, " from atom to atom, wanted positive ones, one of which passes over a whole row or column");
  if (D.type == SHRINKWARP_FLOAT32) return columns_of<float>(D, copy);
  SHRINKWARP_REQUIRE(D.type == SHRINKWARP_FLOAT64, ValueError, "D.type is ", D.type,
                     ", wanted SHRINKWARP_FLOAT32 or SHRINKWARP_FLOAT64");
  return columns_of<double>(D, copy);
}

LambdaRule rule_of(const shrinkwarp_lambda* argument, std::int64_t problems) {
  const shrinkwarp_lambda given = read_struct(argument, "lambda");
  SHRINKWARP_REQUIRE(given.reserved == 0, ValueError, "lambda.reserved is ", given.reserved, ", wanted 0");
  switch (given.kind) {
    case SHRINKWARP_LAMBDA_VALUE:
      return LambdaRule::value(given.number);
    case SHRINKWARP_LAMBDA_PER_PROBLEM: {
      SHRINKWARP_REQUIRE(given.value_count == problems, ShapeError, "lambda.value_count is ", given.value_count,
                         ", wanted one for each of ", problems, " observations");
      SHRINKWARP_REQUIRE(given.values || given.value_count == 0, ValueError, "lambda.values is NULL, wanted ",
                         given.value_count, " lambdas");
      return LambdaRule::per_problem(std::vector<double>(given.values, given.values + given.value_count));
    }
    case SHRINKWARP_LAMBDA_SAMPLE_FRACTION:
      return LambdaRule::sample_fraction(given.number);
    case SHRINKWARP_LAMBDA_RECORDING_FRACTION: {
      SHRINKWARP_REQUIRE(!std::isnan(given.lambda_max) && !(given.lambda_max > std::numeric_limits<double>::max()),
                         ValueError, "lambda.lambda_max is ", given.lambda_max,
                         ", wanted a finite number, negative where it is not known");
      LambdaRule rule = LambdaRule::recording_fraction(given.number);
      rule.lambda_max = given.lambda_max;
      return rule;
    }
    case SHRINKWARP_LAMBDA_L1_RADIUS:
      return LambdaRule::l1_radius(given.number);
    case SHRINKWARP_LAMBDA_RESIDUAL_NORM:
      return LambdaRule::residual_norm(given.number);
    case SHRINKWARP_LAMBDA_MAX_NONZEROS: {
      LambdaRule rule = LambdaRule::max_nonzeros(0);
      rule.number = given.number;
      return rule;
    }
    default:
      SHRINKWARP_THROW(ValueError, "lambda.kind is ", given.kind, ", wanted one of SHRINKWARP_LAMBDA_...");
  }
}

Solver solver_of(std::int32_t given) {
  switch (given) {
    case SHRINKWARP_SOLVER_AUTOMATIC:
      return Solver::automatic;
    case SHRINKWARP_SOLVER_ISTA:
      return Solver::ista;
    case SHRINKWARP_SOLVER_FISTA:
      return Solver::fista;
    case SHRINKWARP_SOLVER_WORKING_SET:
      return Solver::working_set;
    case SHRINKWARP_SOLVER_PLAIN_WORKING_SET:
      return Solver::plain_working_set;
    default:
      SHRINKWARP_THROW(ValueError, "options.solver is ", given, ", wanted one of SHRINKWARP_SOLVER_...");
  }
}

/// The options of a solve, with what LassoOptions points to.
class Options {
 public:
  /// @param argument  nullptr for the defaults
  /// @param atoms     of the dictionary
  Options(const shrinkwarp_options* argument, std::int64_t atoms)
      : given_(argument ? read_struct(argument, "options") : with_defaults<shrinkwarp_options>()) {
    SHRINKWARP_REQUIRE(given_.reserved == 0, ValueError, "options.reserved is ", given_.reserved, ", wanted 0");
    lasso_.solver = solver_of(given_.solver);
    lasso_.restart = given_.restart != 0;
    lasso_.gap = given_.gap;
    lasso_.max_iterations = given_.max_iterations;
    lasso_.memory_limit = given_.memory_limit;
    SHRINKWARP_REQUIRE(
        given_.weights ? given_.weight_count >= 1 && given_.weight_count <= atoms : given_.weight_count == 0,
        ShapeError, "options.weight_count is ", given_.weight_count, ", wanted ",
        given_.weights ? "one for each atom, or for each group" : "0 where options.weights is NULL");
    if (given_.weights) lasso_.penalty.weights.assign(given_.weights, given_.weights + given_.weight_count);
    lasso_.penalty.group_size = given_.group_size;
    lasso_.penalty.ridge = given_.ridge;
    lasso_.penalty.nonnegative = given_.nonnegative != 0;
    lasso_.cancel = &cancel_;
    if (given_.skip) lasso_.skip = [this](std::int64_t problem) { return given_.skip(given_.skip_user, problem) != 0; };
    if (given_.on_progress) lasso_.progress = [this](const Progress& progress) { report(progress); };
    if (given_.on_log)
      lasso_.log = [this](LogLevel level, const std::string& line) {
        given_.on_log(given_.log_user, level == LogLevel::warning ? 1 : 0, line.c_str());
      };
  }
  Options(const Options&) = delete;
  Options& operator=(const Options&) = delete;

  const LassoOptions& lasso() const { return lasso_; }

  /// The warm start, for `problems` problems.
  void read_initial(std::int64_t problems) {
    const std::int64_t* const offsets = given_.initial_offsets;
    const std::int64_t entries = given_.initial_entries;
    if (!offsets) {
      SHRINKWARP_REQUIRE(!given_.initial_indices && !given_.initial_values && entries == 0, ValueError,
                         "options.initial_offsets is NULL, wanted offsets of the initial codes, or no initial codes");
      return;
    }
    SHRINKWARP_REQUIRE(entries >= 0 && ((given_.initial_indices && given_.initial_values) || entries == 0), ValueError,
                       "options.initial_entries is ", entries,
                       ", wanted the number of options.initial_indices and options.initial_values");
    SHRINKWARP_REQUIRE(offsets[problems] == entries, ShapeError, "options.initial_offsets end with ", offsets[problems],
                       ", wanted options.initial_entries, ", entries);
    initial_.offsets.assign(offsets, offsets + problems + 1);
    initial_.indices.assign(given_.initial_indices, given_.initial_indices + entries);
    initial_.values.assign(given_.initial_values, given_.initial_values + entries);
    lasso_.initial = &initial_;
  }

 private:
  void report(const Progress& progress) {
    shrinkwarp_progress told{};
    told.struct_size = sizeof told;
    told.done = progress.done;
    told.total = progress.total;
    told.unconverged = progress.unconverged;
    told.worst_gap = progress.worst_gap;
    told.iterations = progress.iterations;
    if (given_.on_progress(given_.progress_user, &told) != 0) cancel_.cancel();
  }

  shrinkwarp_options given_;
  LassoOptions lasso_;
  SparseCodes initial_;
  CancelToken cancel_;
};

/// What the two ways to solve have in common: reads the arguments, solves, writes the summary.
void solve(shrinkwarp_context* context, const shrinkwarp_dictionary* dictionary,
           const shrinkwarp_observations* observations, const shrinkwarp_lambda* lambda,
           const shrinkwarp_options* options, CodeSink& sink, shrinkwarp_summary* summary) {
  const Context& on = *required(context, "context").context;
  const Dictionary& D = required(dictionary, "dictionary").dictionary;
  const std::unique_ptr<ObservationSource> source = make_source(observations);
  const LambdaRule rule = rule_of(lambda, source->size());
  Options chosen(options, D.atoms());
  chosen.read_initial(source->size());
  if (summary) check_struct(summary, summary->struct_size, "summary");
  const LassoSummary solved = solve_lasso(on, D, *source, rule, chosen.lasso(), sink);
  if (!summary) return;
  shrinkwarp_summary told{};
  told.problems = solved.problems;
  told.unconverged = solved.unconverged;
  told.nonzeros = solved.nonzeros;
  told.iterations = solved.iterations;
  told.worst_gap = solved.worst_gap;
  write_struct(told, summary);
}

}  // namespace
}  // namespace shrinkwarp::c

using namespace shrinkwarp;
using namespace shrinkwarp::c;

const char* shrinkwarp_version(void) {
  return kVersion;
}

int32_t shrinkwarp_version_number(void) {
  return 10000 * SHRINKWARP_VERSION_MAJOR + 100 * SHRINKWARP_VERSION_MINOR + SHRINKWARP_VERSION_PATCH;
}

const char* shrinkwarp_status_name(shrinkwarp_status status) {
  switch (status) {
#define SHRINKWARP_NAME(name) \
  case name:                  \
    return #name
    SHRINKWARP_NAME(SHRINKWARP_OK);
    SHRINKWARP_NAME(SHRINKWARP_ERROR);
    SHRINKWARP_NAME(SHRINKWARP_SHAPE_ERROR);
    SHRINKWARP_NAME(SHRINKWARP_DEVICE_ERROR);
    SHRINKWARP_NAME(SHRINKWARP_VALUE_ERROR);
    SHRINKWARP_NAME(SHRINKWARP_BACKEND_UNAVAILABLE);
    SHRINKWARP_NAME(SHRINKWARP_CUDA_ERROR);
    SHRINKWARP_NAME(SHRINKWARP_CUBLAS_ERROR);
    SHRINKWARP_NAME(SHRINKWARP_CANCELLED);
    SHRINKWARP_NAME(SHRINKWARP_OUT_OF_MEMORY);
    SHRINKWARP_NAME(SHRINKWARP_IO_ERROR);
    SHRINKWARP_NAME(SHRINKWARP_CALLBACK_ERROR);
#undef SHRINKWARP_NAME
    default:
      return "unknown status";
  }
}

const char* shrinkwarp_last_error(void) {
  return last_error;
}

shrinkwarp_status shrinkwarp_context_create_cpu(int32_t threads, shrinkwarp_context** context) {
  return create_context("shrinkwarp_context_create_cpu", context, [&] { return Context::cpu(threads); });
}

shrinkwarp_status shrinkwarp_context_create_cuda(int32_t device, shrinkwarp_context** context) {
  return create_context("shrinkwarp_context_create_cuda", context, [&] { return Context::cuda(device); });
}

shrinkwarp_status shrinkwarp_context_create_cuda_on_stream(void* stream, shrinkwarp_context** context) {
  return create_context("shrinkwarp_context_create_cuda_on_stream", context,
                        [&] { return Context::cuda_on(static_cast<CudaStream>(stream)); });
}

shrinkwarp_status shrinkwarp_context_create_best(shrinkwarp_context** context) {
  return create_context("shrinkwarp_context_create_best", context, [] { return Context::best(); });
}

void shrinkwarp_context_destroy(shrinkwarp_context* context) {
  delete context;
}

int32_t shrinkwarp_context_is_cuda(const shrinkwarp_context* context) {
  return context && context->context->is_cuda() ? 1 : 0;
}

const char* shrinkwarp_context_description(const shrinkwarp_context* context) {
  return context ? context->description.c_str() : "";
}

int32_t shrinkwarp_cuda_device_count(void) {
  return cuda_device_count();
}

shrinkwarp_status shrinkwarp_matrix_init(shrinkwarp_matrix* matrix, size_t struct_size) {
  return guarded("shrinkwarp_matrix_init", [&] { initialise(matrix, struct_size, "matrix"); });
}

shrinkwarp_status shrinkwarp_dictionary_create(shrinkwarp_context* context, const shrinkwarp_matrix* D,
                                               shrinkwarp_dictionary** dictionary) {
  return guarded("shrinkwarp_dictionary_create", [&] {
    shrinkwarp_dictionary*& place = place_for(dictionary, "dictionary");
    const std::shared_ptr<const Context>& on = required(context, "context").context;
    Tensor<double> copy;
    const MatrixView<const double> columns = columns_of(D, copy);
    place = new shrinkwarp_dictionary{on, Dictionary(*on, columns, "D")};
  });
}

void shrinkwarp_dictionary_destroy(shrinkwarp_dictionary* dictionary) {
  delete dictionary;
}

int64_t shrinkwarp_dictionary_rows(const shrinkwarp_dictionary* dictionary) {
  return dictionary ? dictionary->dictionary.rows() : 0;
}

int64_t shrinkwarp_dictionary_atoms(const shrinkwarp_dictionary* dictionary) {
  return dictionary ? dictionary->dictionary.atoms() : 0;
}

shrinkwarp_status shrinkwarp_observations_init(shrinkwarp_observations* observations, size_t struct_size) {
  return guarded("shrinkwarp_observations_init", [&] { initialise(observations, struct_size, "observations"); });
}

shrinkwarp_status shrinkwarp_lambda_init(shrinkwarp_lambda* lambda, size_t struct_size) {
  return guarded("shrinkwarp_lambda_init", [&] { initialise(lambda, struct_size, "lambda"); });
}

shrinkwarp_status shrinkwarp_options_init(shrinkwarp_options* options, size_t struct_size) {
  return guarded("shrinkwarp_options_init", [&] { initialise(options, struct_size, "options"); });
}

shrinkwarp_status shrinkwarp_least_memory(const shrinkwarp_context* context, int64_t rows, int64_t atoms,
                                          const shrinkwarp_options* options, int64_t* bytes) {
  return guarded("shrinkwarp_least_memory", [&] {
    const Context& on = *required(context, "context").context;
    required(bytes, "bytes");
    // What the sums of 64 bits hold.
    constexpr std::int64_t kMostRows = std::int64_t{1} << 28, kMostNumbers = std::int64_t{1} << 48;
    SHRINKWARP_REQUIRE(
        rows >= 1 && rows <= kMostRows && atoms >= 1 &&
            atoms <= std::min<std::int64_t>(std::numeric_limits<std::int32_t>::max(), kMostNumbers / rows),
        ShapeError, "rows x atoms is ", rows, " x ", atoms, ", wanted 1 to ", kMostRows,
        " rows, 1 to 2147483647 atoms and at most ", kMostNumbers, " numbers");
    const Options chosen(options, atoms);
    check_penalty(chosen.lasso().penalty, atoms);
    *bytes = least_memory(on, rows, atoms, chosen.lasso().solver, chosen.lasso().penalty);
  });
}

shrinkwarp_status shrinkwarp_summary_init(shrinkwarp_summary* summary, size_t struct_size) {
  return guarded("shrinkwarp_summary_init", [&] { initialise(summary, struct_size, "summary"); });
}

const shrinkwarp_batch* shrinkwarp_result_batch(const shrinkwarp_result* result) {
  return result ? &result->view : nullptr;
}

void shrinkwarp_result_destroy(shrinkwarp_result* result) {
  delete result;
}

shrinkwarp_status shrinkwarp_solve(shrinkwarp_context* context, const shrinkwarp_dictionary* dictionary,
                                   const shrinkwarp_observations* observations, const shrinkwarp_lambda* lambda,
                                   const shrinkwarp_options* options, shrinkwarp_summary* summary,
                                   shrinkwarp_result** result) {
  return guarded("shrinkwarp_solve", [&] {
    shrinkwarp_result*& place = place_for(result, "result");
    MemorySink sink;
    const auto deliver = [&] {
      auto made = std::make_unique<shrinkwarp_result>();
      made->problems = sink.in_order();
      made->view = view_of(made->problems, dictionary->dictionary.atoms());
      place = made.release();
    };
    try {
      solve(context, dictionary, observations, lambda, options, sink, summary);
    } catch (const Cancelled&) {
      deliver();
      throw;
    }
    deliver();
  });
}

shrinkwarp_status shrinkwarp_solve_stream(shrinkwarp_context* context, const shrinkwarp_dictionary* dictionary,
                                          const shrinkwarp_observations* observations, const shrinkwarp_lambda* lambda,
                                          const shrinkwarp_options* options, shrinkwarp_take take, void* user,
                                          shrinkwarp_summary* summary) {
  return guarded("shrinkwarp_solve_stream", [&] {
    SHRINKWARP_REQUIRE(take, ValueError, "take is NULL, wanted a function");
    Taker taker(take, user, required(dictionary, "dictionary").dictionary.atoms());
    solve(context, dictionary, observations, lambda, options, taker, summary);
  });
}

shrinkwarp_status shrinkwarp_lambda_max(shrinkwarp_context* context, const shrinkwarp_dictionary* dictionary,
                                        const shrinkwarp_observations* observations, const shrinkwarp_options* options,
                                        double* largest, int64_t capacity) {
  return guarded("shrinkwarp_lambda_max", [&] {
    const Context& on = *required(context, "context").context;
    const Dictionary& D = required(dictionary, "dictionary").dictionary;
    const std::unique_ptr<ObservationSource> source = make_source(observations);
    const Options chosen(options, D.atoms());
    SHRINKWARP_REQUIRE(capacity >= source->size(), ShapeError, "capacity is ", capacity, ", wanted at least ",
                       source->size(), ", one for each observation");
    SHRINKWARP_REQUIRE(largest || source->size() == 0, ValueError, "lambda_max is NULL, wanted room for ",
                       source->size(), " numbers");
    const std::vector<double> found = lambda_max(on, D, *source, chosen.lasso());
    std::copy(found.begin(), found.end(), largest);
  });
}

shrinkwarp_status shrinkwarp_recording_lambda_max(shrinkwarp_context* context, const shrinkwarp_dictionary* dictionary,
                                                  const shrinkwarp_observations* observations,
                                                  const shrinkwarp_options* options, double* largest) {
  return guarded("shrinkwarp_recording_lambda_max", [&] {
    const Context& on = *required(context, "context").context;
    const Dictionary& D = required(dictionary, "dictionary").dictionary;
    const std::unique_ptr<ObservationSource> source = make_source(observations);
    const Options chosen(options, D.atoms());
    required(largest, "largest") = recording_lambda_max(on, D, *source, chosen.lasso());
  });
}
