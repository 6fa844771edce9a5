#include <chrono>
#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/npz.hpp>
#include <shrinkwarp/tools/certify/report.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/cli/command.hpp>
#include <shrinkwarp/tools/cli/json_line.hpp>
#include <shrinkwarp/tools/cli/progress_bar.hpp>
#include <shrinkwarp/tools/cli/text.hpp>

namespace shrinkwarp::cli {
namespace {

using certify::ClaimCheck;
using certify::LambdaChoice;
using certify::Report;

struct CertifyArguments {
  certify::Request request;
  std::string lambda_file;
  std::optional<double> lambda, lambda_fraction;
  std::string lambda_scope = "sample";
  int threads = 0;
  bool quiet = false;
  bool json = false;
};

LambdaChoice lambda_choice(const CertifyArguments& arguments) {
  if (arguments.lambda) return {LambdaChoice::Kind::value, *arguments.lambda, {}};
  if (arguments.lambda_fraction) {
    return {arguments.lambda_scope == "recording" ? LambdaChoice::Kind::recording_fraction
                                                  : LambdaChoice::Kind::sample_fraction,
            *arguments.lambda_fraction,
            {}};
  }
  if (!arguments.lambda_file.empty()) return {LambdaChoice::Kind::per_problem, 0, arguments.lambda_file};
  return {};
}

/// "dual_gap: 3 smaller than found, the first in row 17, by up to 2.1e-03 of 1/2 ||x||^2", nothing where none is stated.
void add_claim(const char* name, const ClaimCheck& check, const char* wrong, const char* unit, std::string& text) {
  if (!check.stated) return;
  if (!text.empty()) text += "\n             ";
  text += name;
  if (check.contradicted == 0) {
    text += ": as found";
    return;
  }
  char worst[32];
  std::snprintf(worst, sizeof(worst), "%.2e", check.worst);
  text += ": " + with_commas(check.contradicted) + " " + wrong + ", the first in row " + std::to_string(check.first) +
          ", by up to " + worst + unit;
}

void print_table(const Report& report, const CertifyArguments& arguments, double seconds) {
  const auto integer = [](std::int64_t value) { return static_cast<long long>(value); };
  std::printf("problems     %s, dictionary %lld x %lld\n", with_commas(report.problems).c_str(), integer(report.rows),
              integer(report.atoms));
  std::printf("certified    %s to a relative gap of %g, %s missed it\n",
              with_commas(report.problems - report.missed).c_str(), arguments.request.gap,
              with_commas(report.missed).c_str());
  std::printf("gap          worst %.2e, 99 %% %.2e, 90 %% %.2e, median %.2e\n", report.worst_gap, report.gap_99,
              report.gap_90, report.median_gap);
  std::printf("rounding     at most %.1e of 1/2 ||x||^2, part of the gap\n", report.worst_rounding);
  std::printf("objective    %.15Lg in all\n", report.objective);
  std::printf("codes        %.1f nonzeros a problem, at most %s\n",
              static_cast<double>(report.nonzeros) / static_cast<double>(report.problems),
              with_commas(report.largest_support).c_str());
  std::printf(
      "optimality   correlations exceed lambda by up to %.1e of it, miss the KKT conditions by up to %.1e of it; "
      "%s of wrong sign\n",
      report.worst_excess, report.worst_kkt, with_commas(report.sign_errors).c_str());
  std::string claims;
  const char* const energies = " of 1/2 ||x||^2";
  add_claim("lambda", report.lambda_claim, "other than asked for", " of it", claims);
  add_claim("objective", report.objective_claim, "other than found", energies, claims);
  add_claim("dual_gap", report.gap_claim, "smaller than found", energies, claims);
  add_claim("converged", report.converged_claim, "missed the gap", energies, claims);
  std::printf("claims       %s\n", claims.empty() ? "none in the file" : claims.c_str());
  std::printf("time         %s\n", duration_text(seconds).c_str());
  std::printf("\n%12s  %12s  %12s  %12s  %22s  %8s\n", "worst rows", "relative gap", "gap", "lambda", "objective",
              "nonzeros");
  for (const certify::Row& row : report.worst) {
    std::printf("%12lld  %12.3e  %12.3e  %12.5g  %22.15g  %8lld\n", integer(row.problem), row.certificate.relative_gap,
                row.certificate.dual_gap, row.lambda, row.certificate.objective, integer(row.nonzeros));
  }
  std::fflush(stdout);
}

nlohmann::json as_json(const ClaimCheck& check) {
  if (!check.stated) return nullptr;
  return {{"contradicted", check.contradicted},
          {"first", check.contradicted > 0 ? nlohmann::json(check.first) : nlohmann::json(nullptr)},
          {"worst", check.worst}};
}

nlohmann::json as_json(const Report& report, const CertifyArguments& arguments, int threads, double seconds) {
  nlohmann::json worst = nlohmann::json::array();
  for (const certify::Row& row : report.worst) {
    worst.push_back({{"row", row.problem},
                     {"lambda", row.lambda},
                     {"objective", row.certificate.objective},
                     {"dual_gap", row.certificate.dual_gap},
                     {"relative_gap", row.certificate.relative_gap},
                     {"rounding", row.certificate.rounding},
                     {"nonzeros", row.nonzeros},
                     {"correlation_excess", row.correlation_excess},
                     {"kkt_violation", row.kkt_violation},
                     {"sign_errors", row.sign_errors}});
  }
  return {{"schema", "shrinkwarp-certify-1"},
          {"codes", arguments.request.codes},
          {"problems", report.problems},
          {"rows", report.rows},
          {"atoms", report.atoms},
          {"gap", arguments.request.gap},
          {"certified", report.problems - report.missed},
          {"missed", report.missed},
          {"worst_gap", report.worst_gap},
          {"median_gap", report.median_gap},
          {"gap_90", report.gap_90},
          {"gap_99", report.gap_99},
          {"worst_rounding", report.worst_rounding},
          {"objective", static_cast<double>(report.objective)},
          {"nonzeros", report.nonzeros},
          {"largest_support", report.largest_support},
          {"worst_excess", report.worst_excess},
          {"worst_kkt", report.worst_kkt},
          {"sign_errors", report.sign_errors},
          {"claims",
           {{"lambda", as_json(report.lambda_claim)},
            {"objective", as_json(report.objective_claim)},
            {"dual_gap", as_json(report.gap_claim)},
            {"converged", as_json(report.converged_claim)}}},
          {"worst", worst},
          {"threads", threads},
          {"seconds", seconds}};
}

/// How the file says that it was made, where `solve` wrote it; empty for others.
std::string fingerprint_of_codes(const std::string& codes) {
  try {
    const NpzReader file = NpzReader::open(codes);
    if (!file.contains("fingerprint")) return {};
    const NpyArray array = file.read("fingerprint");
    return array.header.type == ElementType::s && array.header.size() == 1 ? array.text() : "";
  } catch (const Error&) {  // no archive, or one whose fingerprint is damaged
    return {};
  }
}

/// What the file of codes says about its penalty and these options do not, or nothing.
std::string other_penalty(const certify::Request& request) {
  const std::string text = fingerprint_of_codes(request.codes);
  const auto says = [&text](const std::string& line) {
    return text.rfind(line, 0) == 0 || text.find("\n" + line) != std::string::npos;
  };
  std::string missing;
  const auto look = [&](const char* line, const char* option, bool given) {
    if (given || !says(line)) return;
    missing += missing.empty() ? "" : ", ";
    missing += option;
  };
  look("values of --weights: ", "--weights", !request.weights.empty());
  look("--group-size: ", "--group-size", request.group_size > 1);
  look("--nonnegative: ", "--nonnegative", request.nonnegative);
  look("--elastic-net: ", "--elastic-net", request.ridge > 0);
  look("--l1-radius: ", "--l1-radius", request.radius >= 0);
  return missing;
}

bool is_contradicted(const Report& report) {
  return report.lambda_claim.contradicted + report.objective_claim.contradicted + report.gap_claim.contradicted +
             report.converged_claim.contradicted >
         0;
}

int run_certify(const CertifyArguments& arguments) {
  const auto started = std::chrono::steady_clock::now();
  certify::Request request = arguments.request;
  request.lambda = lambda_choice(arguments);
  if (!request.output.empty()) {
    require_different_files("--output", request.output, "the codes", request.codes);
    require_different_files("--output", request.output, "--dictionary", request.dictionary);
    require_different_files("--output", request.output, "--observations", request.observations);
    if (!request.weights.empty()) require_different_files("--output", request.output, "--weights", request.weights);
    if (!arguments.lambda_file.empty())
      require_different_files("--output", request.output, "--lambda-file", arguments.lambda_file);
  }
  const Context context = Context::cpu(arguments.threads);
  Report report;
  {
    ProgressBar bar(arguments.quiet || arguments.json);
    request.progress = [&bar](const Progress& progress) { bar.update(progress); };
    report = certify_codes(context, request);
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  if (arguments.json) {
    std::cout << json_line(as_json(report, arguments, context.threads(), seconds)) << '\n';
  } else if (!arguments.quiet) {
    print_table(report, arguments, seconds);
  }
  if (report.missed > 0 || is_contradicted(report)) {
    const std::string missing = other_penalty(request);
    if (!missing.empty())
      std::cerr << "shrinkwarp: " << request.codes << " was solved with " << missing
                << ", without which it is held against another problem here\n";
  }
  if (report.missed == 0) return kDone;
  std::cerr << "shrinkwarp: " << with_commas(report.missed) << " of " << with_commas(report.problems)
            << " problems missed the gap of " << request.gap << '\n';
  return kUnconverged;
}

}  // namespace

void add_certify(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<CertifyArguments>();
  CLI::App* command = app.add_subcommand(
      "certify", "Recompute gaps, objectives and supports of anybody's codes, with a rounding bound");
  command
      ->add_option("codes", arguments->request.codes,
                   "Z.npz, a scipy.sparse CSR matrix (N, m), or Z.npy (N, m), of f4 or f8: a row a code")
      ->required();
  command->add_option("--dictionary", arguments->request.dictionary, "D.npy (n, m), f4 or f8: a column an atom")
      ->required();
  command->add_option("--observations", arguments->request.observations, "X.npy (N, n), f4 or f8: a row an observation")
      ->required();
  CLI::Option_group* lambda =
      command->add_option_group("lambda", "the weight of the l1 norm; without any the array 'lambda' of Z.npz");
  lambda->add_option("--lambda", arguments->lambda, "one value for all problems")->check(number_from_0());
  lambda->add_option("--lambda-fraction", arguments->lambda_fraction, "a fraction of lambda_max = ||D'x||_inf")
      ->check(positive_number());
  lambda->add_option("--lambda-file", arguments->lambda_file, "L.npy (N,): a value a problem");
  lambda->require_option(0, 1);
  command
      ->add_option("--lambda-scope", arguments->lambda_scope,
                   "whose lambda_max the fraction is of: each sample's own, or the largest of the recording")
      ->check(one_of({"sample", "recording"}))
      ->needs("--lambda-fraction")
      ->capture_default_str();
  command->add_option(
      "--weights", arguments->request.weights,
      "W.npy (m,): lambda times w_j for atom j; 0 is unpenalised, infinity demands z_j = 0; a weight for "
      "each group with --group-size");
  command
      ->add_option("--group-size", arguments->request.group_size,
                   "G: the penalty is lambda times the sum of the norms of groups of G consecutive atoms")
      ->check(whole_number(1, std::int64_t{1} << 31))
      ->capture_default_str();
  command->add_flag("--nonnegative", arguments->request.nonnegative, "codes are to be >= 0");
  command->add_option("--elastic-net", arguments->request.ridge, "MU: MU/2 ||z||^2 is part of the objective")
      ->check(number_from_0());
  command
      ->add_option("--l1-radius", arguments->request.radius,
                   "C: codes with ||z||_1 <= C that minimise 1/2 ||x - D z||^2, in place of a penalty")
      ->check(positive_number())
      ->excludes("--elastic-net");
  command->add_option("--gap", arguments->request.gap, "relative duality gap to certify: gap <= G * 1/2 ||x||^2")
      ->check(positive_number())
      ->capture_default_str();
  command->add_option("--threads", arguments->threads, "0 takes every processor")
      ->check(whole_number(0, 4096))
      ->capture_default_str();
  command->add_option("--output", arguments->request.output, "C.npz to write: what was found of each problem");
  command->add_flag("--quiet", arguments->quiet, "no progress, no table");
  command->add_flag("--json", arguments->json, "one JSON object in place of the table");
  command->footer(
      "Exit status: 0 all certified, 3 some missed the gap, 2 usage, 1 other errors.\n"
      "Example:\n  shrinkwarp certify Z.npz --dictionary D.npy --observations X.npy");
  command->callback([arguments, &action] { action = [arguments] { return run_certify(*arguments); }; });
}

}  // namespace shrinkwarp::cli
