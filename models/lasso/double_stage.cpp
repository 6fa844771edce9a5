#include <shrinkwarp/models/lasso/double_stage.hpp>

#include <algorithm>

#include <shrinkwarp/models/lasso/stopping.hpp>

namespace shrinkwarp {

DoubleStage::DoubleStage(const Context& context, const Dictionary& dictionary, const LassoOptions& options, Flow& flow,
                         MatrixView<double> staging)
    : context_(context), dictionary_(dictionary), options_(options), flow_(flow), staging_(staging) {}

void DoubleStage::add(const Retired& problem, const SparseCodes& codes, std::int64_t i) {
  const auto begin = codes.offsets[static_cast<std::size_t>(i)];
  const auto end = codes.offsets[static_cast<std::size_t>(i) + 1];
  waiting_.push_back({problem.index, problem.lambda, problem.asked_lambda, problem.iterations,
                      std::vector<std::int32_t>(codes.indices.begin() + begin, codes.indices.begin() + end),
                      std::vector<double>(codes.values.begin() + begin, codes.values.begin() + end)});
}

void DoubleStage::finish() {
  if (waiting() == 0) return;
  flow_.log(LogLevel::info, waiting(), " problems go on in double");
  if (!batch_)
    batch_ = std::make_unique<Batch>(context_, dictionary_, momentum_of(options_), options_.penalty, places(),
                                     options_.profile);
  while (waiting() > 0 || batch_->running() > 0) {
    flow_.check_cancel();
    admit();
    if (batch_->running() > 0) {
      batch_->advance(options_.max_iterations);
      settle();
    }
    flow_.report();
  }
}

void DoubleStage::admit() {
  std::vector<Batch::Problem> problems;
  SparseCodes initial;
  for (std::int64_t left = std::min(places() - batch_->running(), waiting()); left > 0; --left) {
    const Waiting from = std::move(waiting_.front());
    waiting_.pop_front();
    std::vector<std::int64_t> row{from.index};
    flow_.read(row, staging_.columns(static_cast<std::int64_t>(problems.size()), 1));
    if (row.empty()) continue;  // it was read before and cannot be read now: all others are finished
    Batch::Problem problem;
    problem.index = from.index;
    problem.lambda = from.lambda;
    problem.asked_lambda = from.asked_lambda;
    problem.iterations = from.iterations;
    problems.push_back(problem);
    initial.indices.insert(initial.indices.end(), from.indices.begin(), from.indices.end());
    initial.values.insert(initial.values.end(), from.values.begin(), from.values.end());
    initial.offsets.push_back(static_cast<std::int64_t>(initial.values.size()));
  }
  if (problems.empty()) return;
  batch_->admit(staging_.columns(0, static_cast<std::int64_t>(problems.size())), problems, {&initial, {}},
                [this](std::int64_t index, double lambda_max) { return flow_.lambda_of(index, lambda_max); });
  settle();
}

void DoubleStage::settle() {
  std::vector<std::uint8_t> leave;
  for (const auto& problem : batch_->problems()) leave.push_back(finished(problem, options_) ? 1 : 0);
  SparseCodes codes;
  std::vector<Retired> results;
  for (const auto& problem : batch_->retire(leave, codes)) results.push_back(retired(problem));
  flow_.deliver(results, codes);
}

}  // namespace shrinkwarp
