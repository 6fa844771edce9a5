#include <shrinkwarp/models/lasso/device_pool.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace shrinkwarp {
namespace {

std::size_t index_of(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

std::int64_t panels_of(std::int64_t atoms) {
  return (atoms + kPanelAtoms - 1) / kPanelAtoms;
}

// Atoms of finished codes that leave in one go, for each place: more make the block grow.
constexpr std::int64_t kCodeAtoms = 32;

}  // namespace

void DevicePool::lay_out(Arena& arena, std::int64_t rows, std::int64_t atoms, std::int64_t capacity,
                         std::int64_t places) {
  sets_ = ActiveSets::lay_out(arena, capacity, places);
  problems_ = WorkingSetProblems::lay_out(arena, rows, places);
  keys_ = arena.matrix<std::uint32_t>(panels_of(atoms), places);
  list_ = arena.vector<std::int32_t>(places);
  given_ = arena.vector<double>(places);
  incoming_ = arena.matrix<double>(rows, places);
}

std::int64_t DevicePool::bytes(std::int64_t rows, std::int64_t atoms, std::int64_t capacity, std::int64_t places) {
  constexpr std::int64_t kPadding = 40 * 256;
  const std::int64_t place = capacity * (16 * capacity + 24) + 24 * rows + 4 * panels_of(atoms) + 12 * kCodeAtoms +
                             4 * WorkingSetProblems::kMostNewAtoms + 160;
  return places * place + HalfColumns::bytes(rows, places) + kPadding;
}

DevicePool::DevicePool(const Context& context, const Dictionary& dictionary, const LassoOptions& options,
                       double fraction, std::int64_t capacity, std::int64_t places)
    : context_(context),
      dictionary_(dictionary),
      parts_(dictionary.device_working_set(context)),
      profile_(options.profile),
      rules_{options.gap, fraction, std::sqrt(dictionary.lipschitz()), options.max_iterations},
      arena_([&] {
        Arena counting(context.device());
        lay_out(counting, dictionary.rows(), dictionary.atoms(), capacity, places);
        return Arena(context, counting.used());
      }()),
      residuals_(context, dictionary.rows(), places),
      offsets_(context, places),
      indices_(context, kCodeAtoms * places),
      values_(context, kCodeAtoms * places),
      free_(index_of(places)),
      known_(index_of(places)) {
  lay_out(arena_, dictionary.rows(), dictionary.atoms(), capacity, places);
  numbers_.resize(index_of(problems_.numbers.size));
  counts_.resize(index_of(problems_.counts.size));
  std::iota(free_.rbegin(), free_.rend(), 0);  // the last one is taken first
}

void DevicePool::admit(MatrixView<const double> X, const std::vector<Problem>& problems,
                       const std::vector<double>& lambda) {
  if (X.cols == 0) return;
  const PhaseTimer timer(context_, profile_, "admit");
  std::vector<std::int32_t> places(index_of(X.cols));
  for (std::size_t b = 0; b < places.size(); ++b) {
    places[b] = free_.back();
    free_.pop_back();
    known_[static_cast<std::size_t>(places[b])] = problems[b];
  }
  const VectorView<std::int32_t> list = list_.slice(0, X.cols);
  const VectorView<double> given = given_.slice(0, X.cols);
  const MatrixView<double> incoming = incoming_.columns(0, X.cols);
  copy(context_, VectorView<const std::int32_t>{places.data(), X.cols, {}}, list);
  copy(context_, VectorView<const double>{lambda.data(), X.cols, {}}, given);
  copy(context_, X, incoming);
  admit_problems(context_, incoming, list, given, dictionary_.scale(), problems_, sets_);
  running_.insert(running_.end(), places.begin(), places.end());
  context_.synchronize();  // the copies read host memory that ends here
}

void DevicePool::launch_round() {
  const std::int64_t count = running();
  const MatrixView<const double> D = dictionary_.exact().matrix();
  const VectorView<std::int32_t> list = list_.slice(0, count);
  const MatrixView<std::uint32_t> keys = keys_.columns(0, count);
  copy(context_, VectorView<const std::int32_t>{running_.data(), count, {}}, list);
  {
    const PhaseTimer timer(context_, profile_, "round to half");
    residuals_.set(context_, problems_.r, list);
  }
  {
    const double flops = 2.0 * static_cast<double>(D.rows) * static_cast<double>(D.cols) * static_cast<double>(count);
    const PhaseTimer timer(context_, profile_, "pass", flops);
    panel_bounds(context_, parts_.half, residuals_, count, keys);
  }
  {
    const PhaseTimer timer(context_, profile_, "look");
    look_at_bounds(context_, D, parts_.half, residuals_, keys, list, rules_, problems_, sets_);
  }
  {
    const PhaseTimer timer(context_, profile_, "add atoms");
    add_atoms(context_, D, parts_.gram.matrix(), problems_.r, list, problems_.fresh, problems_.fresh_count, sets_);
  }
  {
    const PhaseTimer timer(context_, profile_, "active set");
    constexpr std::int64_t kStepsAnAtom = 20;
    solve_active_sets(context_, list, problems_.lambda, problems_.tolerance, kStepsAnAtom, sets_);
  }
  {
    const PhaseTimer timer(context_, profile_, "residual");
    update_residuals(context_, D, list, problems_, sets_);
  }
  const PhaseTimer timer(context_, profile_, "status");
  copy(context_, problems_.numbers, VectorView<double>{numbers_.data(), problems_.numbers.size, {}});
  copy(context_, problems_.counts, VectorView<std::int32_t>{counts_.data(), problems_.counts.size, {}});
  context_.synchronize();
}

void DevicePool::round(std::vector<Problem>& retired, SparseCodes& codes, std::vector<Problem>& outgrown,
                       std::vector<double>& observations) {
  if (running_.empty()) return;
  launch_round();
  // Where a vector of the device's problems lies in the host's copy.
  const auto number = [&](VectorView<double> vector, std::int32_t place) {
    return numbers_[index_of(vector.data - problems_.numbers.data + place)];
  };
  const auto count = [&](VectorView<std::int32_t> vector, std::int32_t place) {
    return counts_[index_of(vector.data - problems_.counts.data + place)];
  };
  std::vector<std::int32_t> done, full, still;
  for (const std::int32_t place : running_) {
    switch (count(problems_.state, place)) {
      case kProblemRuns:
        still.push_back(place);
        break;
      case kProblemFull:
        full.push_back(place);
        break;
      default:
        done.push_back(place);
    }
  }
  if (done.empty() && full.empty()) return;
  const PhaseTimer timer(context_, profile_, "retire");
  for (const std::int32_t place : done) {
    Problem problem = known_[static_cast<std::size_t>(place)];
    problem.scale = number(problems_.scale, place);
    problem.lambda = number(problems_.lambda, place);
    problem.energy = number(problems_.energy, place);
    problem.primal = number(problems_.primal, place);
    problem.gap = number(problems_.gap, place);
    problem.iterations = count(problems_.iterations, place);
    problem.stuck = count(problems_.state, place) == kProblemStuck;
    retired.push_back(problem);
  }
  collect(done, codes);
  for (const std::int32_t place : full) {
    const std::size_t first = observations.size();
    const std::int64_t rows = problems_.x.rows;
    observations.resize(first + index_of(rows));
    copy(context_, VectorView<const double>{problems_.x.column(place), rows, problems_.x.device},
         VectorView<double>{observations.data() + first, rows, {}});
    context_.synchronize();
    const double scale = number(problems_.scale, place);
    for (std::size_t i = first; i < observations.size(); ++i) observations[i] *= scale;
    outgrown.push_back(known_[static_cast<std::size_t>(place)]);
  }
  for (const auto* leaving : {&done, &full}) free_.insert(free_.end(), leaving->rbegin(), leaving->rend());
  running_ = std::move(still);
}

void DevicePool::collect(const std::vector<std::int32_t>& done, SparseCodes& codes) {
  if (done.empty()) return;
  const auto number = static_cast<std::int64_t>(done.size());
  std::vector<std::int64_t> offsets;
  std::int64_t total = 0;
  const std::int32_t* const support = counts_.data() + (problems_.support.data - problems_.counts.data);
  const std::int64_t before = codes.offsets.back();
  for (const std::int32_t place : done) {
    offsets.push_back(total);
    total += support[place];
    codes.offsets.push_back(before + total);
  }
  if (total > indices_.size()) {
    indices_ = Tensor<std::int32_t>(context_, total);
    values_ = Tensor<double>(context_, total);
  }
  copy(context_, VectorView<const std::int32_t>{done.data(), number, {}}, list_.slice(0, number));
  copy(context_, VectorView<const std::int64_t>{offsets.data(), number, {}}, offsets_.vector().slice(0, number));
  const VectorView<std::int32_t> indices = indices_.vector().slice(0, total);
  const VectorView<double> values = values_.vector().slice(0, total);
  collect_codes(context_, list_.slice(0, number), offsets_.vector().slice(0, number), dictionary_.scale(), problems_,
                sets_, indices, values);
  const auto first = codes.indices.size();
  codes.indices.resize(first + index_of(total));
  codes.values.resize(first + index_of(total));
  copy(context_, indices, VectorView<std::int32_t>{codes.indices.data() + first, total, {}});
  copy(context_, values, VectorView<double>{codes.values.data() + first, total, {}});
  context_.synchronize();
}

}  // namespace shrinkwarp
