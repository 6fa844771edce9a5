#include <shrinkwarp/tools/files/solve_fingerprint.hpp>

#include <string>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/instruction_set.hpp>
#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/models/lasso/solver_name.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/hash.hpp>
#include <shrinkwarp/tools/files/build_id.hpp>

namespace shrinkwarp {
namespace {

void add_lambda(const LambdaRule& rule, Fingerprint& fingerprint) {
  switch (rule.kind) {
    case LambdaRule::Kind::value:
      fingerprint.add("--lambda", rule.number);
      break;
    case LambdaRule::Kind::per_problem:
      fingerprint.add_hash(
          "values of --lambda-file",
          hash_bytes(rule.values.data(), static_cast<std::int64_t>(rule.values.size() * sizeof(double))));
      break;
    case LambdaRule::Kind::sample_fraction:
      fingerprint.add("--lambda-fraction", rule.number);
      fingerprint.add("--lambda-scope", "sample");
      break;
    case LambdaRule::Kind::recording_fraction:
      fingerprint.add("--lambda-fraction", rule.number);
      fingerprint.add("--lambda-scope", "recording");
      fingerprint.add("lambda_max of the recording", rule.lambda_max);
      break;
    case LambdaRule::Kind::l1_radius:
      fingerprint.add("--l1-radius", rule.number);
      break;
    case LambdaRule::Kind::residual_norm:
      fingerprint.add("--residual-norm", rule.number);
      break;
    case LambdaRule::Kind::max_nonzeros:
      fingerprint.add("--max-nonzeros", rule.number);
      break;
  }
}

std::uint64_t hash_of(const SparseCodes& codes) {
  Hash hash;
  const auto add = [&hash](const auto& values) {
    if (!values.empty()) hash.add(values.data(), static_cast<std::int64_t>(values.size() * sizeof(values[0])));
  };
  add(codes.offsets);
  add(codes.indices);
  add(codes.values);
  return hash.value();
}

void add_penalty(const Penalty& penalty, Fingerprint& fingerprint) {
  if (!penalty.weights.empty())
    fingerprint.add_hash(
        "values of --weights",
        hash_bytes(penalty.weights.data(), static_cast<std::int64_t>(penalty.weights.size() * sizeof(double))));
  if (penalty.nonnegative) fingerprint.add("--nonnegative", "yes");
  if (penalty.ridge > 0) fingerprint.add("--elastic-net", penalty.ridge);
  if (penalty.grouped()) fingerprint.add("--group-size", penalty.group_size);
}

}  // namespace

Fingerprint fingerprint_of(const Context& context, const Dictionary& dictionary, std::uint64_t dictionary_hash,
                           const ObservationSource& observations, const LambdaRule& rule, const LassoOptions& options) {
  Fingerprint fingerprint;
  fingerprint.add("--dictionary", concat(dictionary.rows(), " x ", dictionary.atoms()));
  fingerprint.add_hash("values of --dictionary", dictionary_hash);
  fingerprint.add("--observations", concat(observations.size(), " x ", observations.dimension()));
  add_lambda(rule, fingerprint);
  add_penalty(options.penalty, fingerprint);
  if (options.initial) fingerprint.add_hash("values of --warm-start", hash_of(*options.initial));
  fingerprint.add("--gap", options.gap);
  fingerprint.add("--max-iterations", options.max_iterations);
  fingerprint.add(
      "--solver",
      std::string(name_of(resolved(context, dictionary.rows(), dictionary.atoms(), observations.size(), options))));
  fingerprint.add("restarts", options.restart ? "yes" : "no");
  if (!context.is_cuda()) {
    fingerprint.add("instruction set", std::string(cpu_instruction_set()));
  }
  fingerprint.add("device", context.is_cuda() ? context.description() : processor_name());
  fingerprint.add("BLAS", concat("OpenBLAS, ", cpu_blas_core_name()));
  fingerprint.add("program", concat(kVersion, ", build ", build_id()));
  return fingerprint;
}

}  // namespace shrinkwarp
