#include <shrinkwarp/models/lasso/device_pool.hpp>
#include <shrinkwarp/runtime/index.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include <shrinkwarp/models/lasso/batch_penalty.hpp>
#include <shrinkwarp/models/lasso/flow.hpp>
#include <shrinkwarp/models/lasso/user_units.hpp>

namespace shrinkwarp {
namespace {

std::int64_t columns_of(std::int64_t atoms, std::int64_t group_size) {
  return atoms / group_size * group_columns(group_size);
}

std::int64_t panels_of(std::int64_t columns) {
  return (columns + kPanelAtoms - 1) / kPanelAtoms;
}

// Atoms of codes that leave, or come in, in one go, for each place: more make the block grow.
constexpr std::int64_t kCodeAtoms = 32;

}  // namespace

DevicePenalty::DevicePenalty(const Context& context, const Dictionary& dictionary, const Penalty& penalty)
    : whole_(dictionary.device_working_set(context).half) {
  const std::int64_t s = penalty.group_size, atoms = dictionary.atoms();
  view_.ridge = in_batch_units(penalty, dictionary).ridge;
  view_.nonnegative = penalty.nonnegative;
  view_.group_size = s;
  const std::int64_t stride = group_columns(s), columns = columns_of(atoms, s);
  if (penalty.grouped()) {
    std::vector<std::int32_t> from(index_of(columns), -1);
    for (std::int64_t j = 0; j < atoms; ++j) from[index_of(j / s * stride + j % s)] = static_cast<std::int32_t>(j);
    Tensor<std::int32_t> given(context, columns);
    copy(context, VectorView<const std::int32_t>{from.data(), columns, {}}, given.vector());
    in_groups_ = HalfColumns(context, dictionary.rows(), columns);
    in_groups_.set(context, dictionary.exact().matrix(), given.vector());
    const Context host = Context::cpu();
    const std::int64_t padded_rows =
        (dictionary.rows() + GroupSet::kPadding - 1) / GroupSet::kPadding * GroupSet::kPadding;
    const auto D = Tensor<double>::zeros(host, padded_rows, atoms);
    MatrixView<double> filled = D.matrix();
    filled.rows = dictionary.rows();
    copy(context, dictionary.exact().matrix(), filled);
    context.synchronize();
    const GroupBasis basis(host, D.matrix(), s);
    vectors_ = Tensor<double>(context, s, atoms);
    values_ = Tensor<double>(context, atoms);
    copy(context, basis.vectors(), vectors_.matrix());
    copy(context, basis.values(), values_.vector());
    context.synchronize();
  }
  if (penalty.weights.empty()) return;
  const VectorView<const double> weights{penalty.weights.data(), atoms / s, {}};
  weights_ = Tensor<double>(context, weights.size);
  copy(context, weights, weights_.vector());
  view_.weights = weights_.vector();
  std::vector<double> of_columns(index_of(columns));
  for (std::int64_t j = 0; j < columns; ++j) of_columns[index_of(j)] = weights[j / stride];
  divided_ = DividedBounds(context, half(), {of_columns.data(), columns, {}});  // waits
}

std::int64_t DevicePenalty::bytes(std::int64_t rows, std::int64_t atoms, std::int64_t group_size) {
  const std::int64_t columns = columns_of(atoms, group_size);
  const std::int64_t groups =
      group_size > 1 ? HalfColumns::bytes(rows, columns) + 8 * atoms * (group_size + 1) + 4 * columns + 3 * 256 : 0;
  return groups + 8 * atoms + 256 + DividedBounds::bytes(columns);
}

void DevicePool::lay_out(Arena& arena, std::int64_t capacity, std::int64_t places) {
  const std::int64_t rows = dictionary_.rows(), group_size = options_.penalty.group_size;
  sets_ = ActiveSets::lay_out(arena, capacity, places);
  problems_ = WorkingSetProblems::lay_out(arena, rows, places, group_size);
  keys_ = arena.matrix<std::uint32_t>(panels_of(columns_of(dictionary_.atoms(), group_size)), places);
  list_ = arena.vector<std::int32_t>(places);
  given_ = arena.vector<double>(places);
  incoming_ = arena.matrix<double>(rows, places);
  start_ = arena.vector<std::int32_t>(places);
}

std::int64_t DevicePool::bytes(std::int64_t rows, std::int64_t atoms, std::int64_t capacity, std::int64_t places,
                               std::int64_t group_size) {
  constexpr std::int64_t kPadding = 40 * 256;
  const std::int64_t place = capacity * (16 * capacity + 24) + 24 * rows +
                             4 * panels_of(columns_of(atoms, group_size)) + 12 * kCodeAtoms +
                             4 * WorkingSetProblems::most_new_atoms(group_size) + 160;
  return places * place + HalfColumns::bytes(rows, places) + kPadding;
}

DevicePool::DevicePool(const Context& context, const Dictionary& dictionary, const LassoOptions& options,
                       const DevicePenalty& penalty, double fraction, std::int64_t capacity, std::int64_t places,
                       std::int64_t most_atoms)
    : context_(context),
      dictionary_(dictionary),
      options_(options),
      penalty_(penalty),
      parts_(dictionary.device_working_set(context)),
      profile_(options.profile),
      most_atoms_(most_atoms),
      rules_{options.gap, fraction, dictionary.atom_norm(), options.max_iterations, options.initial != nullptr},
      arena_([&] {
        Arena counting(context.device());
        lay_out(counting, capacity, places);
        return Arena(context, counting.used());
      }()),
      residuals_(context, dictionary.rows(), places),
      offsets_(context, places),
      indices_(context, kCodeAtoms * places),
      values_(context, kCodeAtoms * places),
      free_(index_of(places)),
      known_(index_of(places)),
      staging_(context, dictionary.rows(), places),
      arriving_lambda_(context, places),
      arriving_places_(context, places),
      arriving_start_(context, places),
      list_of_running_(context, places),
      leaving_(context, places),
      moving_offsets_(context, places),
      moving_indices_(context, indices_.size()),
      moving_values_(context, values_.size()) {
  lay_out(arena_, capacity, places);
  numbers_ = PinnedMatrix<double>(context, problems_.numbers.size);
  counts_ = PinnedMatrix<std::int32_t>(context, problems_.counts.size);
  std::iota(free_.rbegin(), free_.rend(), 0);  // the last one is taken first
}

MatrixView<double> DevicePool::staging() {
  if (std::exchange(arriving_, false)) context_.synchronize();
  return staging_.matrix();
}

void DevicePool::admit(const std::vector<Problem>& problems, const std::vector<double>& lambda) {
  if (problems.empty()) return;
  const PhaseTimer timer(context_, profile_, "admit");
  if (arriving_) context_.synchronize();
  arriving_ = true;
  const auto count = static_cast<std::int64_t>(problems.size());
  for (std::size_t b = 0; b < problems.size(); ++b) {
    const std::int32_t place = free_.back();
    free_.pop_back();
    running_.push_back(place);
    arriving_places_.data()[b] = place;
    arriving_lambda_.data()[b] = lambda[b];
    Problem& known = known_[static_cast<std::size_t>(place)];
    known = problems[b];
    known.asked_lambda = lambda[b];
  }
  const VectorView<std::int32_t> list = list_.slice(0, count);
  const VectorView<double> given = given_.slice(0, count);
  const MatrixView<double> incoming = incoming_.columns(0, count);
  copy(context_, arriving_places_.vector().slice(0, count), list);
  copy(context_, arriving_lambda_.vector().slice(0, count), given);
  copy(context_, staging_.matrix().columns(0, count), incoming);
  StartCodes starts;
  if (options_.initial != nullptr) {
    starts = initial_codes(problems);
    starting_ = true;
  }
  admit_problems(context_, incoming, list, given, dictionary_.scale(), problems_, sets_, starts);
}

// What problems start at, on its way to the device.
StartCodes DevicePool::initial_codes(const std::vector<Problem>& problems) {
  const auto group_size = static_cast<std::int32_t>(options_.penalty.group_size);
  SparseCodes codes;
  for (std::size_t b = 0; b < problems.size(); ++b) {
    SparseCodes given;
    append_start(*options_.initial, problems[b].index, options_.penalty, given);
    std::vector<std::size_t> order(given.values.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t i, std::size_t k) { return given.indices[i] < given.indices[k]; });
    // Of an atom that comes twice the first value counts.
    order.erase(std::unique(order.begin(), order.end(),
                            [&](std::size_t i, std::size_t k) { return given.indices[i] == given.indices[k]; }),
                order.end());
    // Groups come whole.
    SparseCodes start;
    for (const std::size_t k : order) {
      const std::int32_t atom = given.indices[k], first = atom - atom % group_size;
      if (start.indices.empty() || start.indices.back() < first)
        for (std::int32_t j = first; j < first + group_size; ++j) {
          start.indices.push_back(j);
          start.values.push_back(0);
        }
      start.values[start.values.size() - index_of(first + group_size - atom)] = given.values[k];
    }
    auto count = static_cast<std::int64_t>(start.values.size());
    if (count > most_atoms_) count = 0;
    arriving_start_.data()[b] = static_cast<std::int32_t>(count);
    moving_offsets_.data()[b] = codes.offsets.back();
    if (count > sets_.capacity) count = 0;  // the problem goes on to a larger place
    codes.indices.insert(codes.indices.end(), start.indices.begin(), start.indices.begin() + count);
    codes.values.insert(codes.values.end(), start.values.begin(), start.values.begin() + count);
    codes.offsets.push_back(static_cast<std::int64_t>(codes.values.size()));
  }
  const auto count = static_cast<std::int64_t>(problems.size()), total = codes.offsets.back();
  make_room(total);
  std::copy(codes.indices.begin(), codes.indices.end(), moving_indices_.data());
  std::copy(codes.values.begin(), codes.values.end(), moving_values_.data());
  const StartCodes starts{start_.slice(0, count), offsets_.vector().slice(0, count), indices_.vector().slice(0, total),
                          values_.vector().slice(0, total)};
  copy(context_, arriving_start_.vector().slice(0, count), start_.slice(0, count));
  copy(context_, moving_offsets_.vector().slice(0, count), offsets_.vector().slice(0, count));
  copy(context_, moving_indices_.vector().slice(0, total), indices_.vector().slice(0, total));
  copy(context_, moving_values_.vector().slice(0, total), values_.vector().slice(0, total));
  return starts;
}

// For codes on their way: nothing that is queued reads or writes what is there.
void DevicePool::make_room(std::int64_t entries) {
  if (entries <= indices_.size()) return;
  indices_ = Tensor<std::int32_t>(context_, entries);
  values_ = Tensor<double>(context_, entries);
  moving_indices_ = PinnedMatrix<std::int32_t>(context_, entries);
  moving_values_ = PinnedMatrix<double>(context_, entries);
}

// Problems that wait for it start at their codes.
void DevicePool::start(VectorView<const std::int32_t> list) {
  const MatrixView<const double> D = dictionary_.exact().matrix(), gram = parts_.gram.matrix();
  if (penalty_.view().grouped())
    start_group_sets(context_, D, gram, problems_.r, list, problems_.lambda, problems_.start, sets_, penalty_.view());
  else
    start_active_sets(context_, D, gram, problems_.r, list, problems_.lambda, problems_.start, sets_, penalty_.view());
}

void DevicePool::solve(VectorView<const std::int32_t> list) {
  constexpr std::int64_t kStepsAnAtom = 20, kNewtonSteps = 60;
  if (penalty_.view().grouped())
    solve_group_sets(context_, penalty_.basis(), list, problems_.lambda, problems_.tolerance, kNewtonSteps, sets_,
                     penalty_.view());
  else
    solve_active_sets(context_, list, problems_.lambda, problems_.tolerance, kStepsAnAtom, sets_, penalty_.view());
}

void DevicePool::begin_round() {
  if (running_.empty()) return;
  rounding_ = true;
  const std::int64_t count = running();
  const MatrixView<const double> D = dictionary_.exact().matrix();
  const VectorView<std::int32_t> list = list_.slice(0, count);
  const MatrixView<std::uint32_t> keys = keys_.columns(0, count);
  std::copy(running_.begin(), running_.end(), list_of_running_.data());
  copy(context_, list_of_running_.vector().slice(0, count), list);
  {
    const PhaseTimer timer(context_, profile_, "round to half");
    residuals_.set(context_, problems_.r, list);
  }
  {
    const double flops =
        2.0 * static_cast<double>(D.rows) * static_cast<double>(penalty_.half().cols()) * static_cast<double>(count);
    const PhaseTimer timer(context_, profile_, "pass", flops);
    panel_bounds(context_, penalty_.half(), residuals_, count, keys,
                 {penalty_.divided(), penalty_.view().nonnegative, group_columns(penalty_.view().group_size)});
  }
  {
    const PhaseTimer timer(context_, profile_, "look");
    look_at_bounds(context_, D, penalty_.half(), residuals_, keys, list, rules_, problems_, sets_, penalty_.view(),
                   penalty_.divided());
  }
  if (std::exchange(starting_, false)) {
    const PhaseTimer timer(context_, profile_, "start");
    start(list);
  }
  {
    const PhaseTimer timer(context_, profile_, "add atoms");
    add_atoms(context_, D, parts_.gram.matrix(), problems_.r, list, problems_.fresh, problems_.fresh_count, sets_,
              penalty_.view());
  }
  {
    const PhaseTimer timer(context_, profile_, penalty_.view().grouped() ? "group set" : "active set");
    solve(list);
  }
  {
    const PhaseTimer timer(context_, profile_, "residual");
    update_residuals(context_, D, list, problems_, sets_, penalty_.view());
  }
  const PhaseTimer timer(context_, profile_, "status");
  copy(context_, problems_.numbers, numbers_.vector());
  copy(context_, problems_.counts, counts_.vector());
}

void DevicePool::finish_round(std::vector<Problem>& retired, SparseCodes& codes, std::vector<Problem>& outgrown,
                              std::vector<double>& observations) {
  if (!std::exchange(rounding_, false)) return;
  context_.synchronize();
  arriving_ = false;
  // Where a vector of the device's problems lies in the host's copy.
  const auto number = [&](VectorView<double> vector, std::int32_t place) {
    return numbers_.data()[vector.data - problems_.numbers.data + place];
  };
  const auto count = [&](VectorView<std::int32_t> vector, std::int32_t place) {
    return counts_.data()[vector.data - problems_.counts.data + place];
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
    if (problem.asked_lambda < 0)
      problem.asked_lambda = lambda_max_of(problem.lambda, problem.scale, dictionary_.scale());
    problem.energy = number(problems_.energy, place);
    problem.primal = number(problems_.primal, place);
    problem.gap = number(problems_.gap, place);
    problem.iterations = count(problems_.iterations, place);
    problem.stuck = count(problems_.state, place) == kProblemStuck;
    retired.push_back(problem);
  }
  collect(done, codes);
  const std::int64_t rows = problems_.x.rows;
  const std::size_t first = observations.size();
  observations.resize(first + full.size() * index_of(rows));
  for (std::size_t i = 0; i < full.size(); ++i)
    copy(context_, VectorView<const double>{problems_.x.column(full[i]), rows, problems_.x.device},
         VectorView<double>{observations.data() + first + i * index_of(rows), rows, {}});
  if (!full.empty()) context_.synchronize();
  for (std::size_t i = 0; i < full.size(); ++i) {
    double* const x = observations.data() + first + i * index_of(rows);
    const double scale = number(problems_.scale, full[i]);
    std::transform(x, x + rows, x, [scale](double value) { return value * scale; });
    outgrown.push_back(known_[static_cast<std::size_t>(full[i])]);
  }
  for (const auto* leaving : {&done, &full}) free_.insert(free_.end(), leaving->rbegin(), leaving->rend());
  running_ = std::move(still);
}

void DevicePool::collect(const std::vector<std::int32_t>& done, SparseCodes& codes) {
  if (done.empty()) return;
  const auto number = static_cast<std::int64_t>(done.size());
  std::int64_t total = 0;
  const std::int32_t* const support = counts_.data() + (problems_.support.data - problems_.counts.data);
  const std::int64_t before = codes.offsets.back();
  for (std::int64_t i = 0; i < number; ++i) {
    leaving_.data()[i] = done[index_of(i)];
    moving_offsets_.data()[i] = total;
    total += support[done[index_of(i)]];
    codes.offsets.push_back(before + total);
  }
  make_room(total);
  copy(context_, leaving_.vector().slice(0, number), list_.slice(0, number));
  copy(context_, moving_offsets_.vector().slice(0, number), offsets_.vector().slice(0, number));
  const VectorView<std::int32_t> indices = indices_.vector().slice(0, total);
  const VectorView<double> values = values_.vector().slice(0, total);
  collect_codes(context_, list_.slice(0, number), offsets_.vector().slice(0, number), dictionary_.scale(), problems_,
                sets_, indices, values);
  copy(context_, indices, moving_indices_.vector().slice(0, total));
  copy(context_, values, moving_values_.vector().slice(0, total));
  context_.synchronize();
  codes.indices.insert(codes.indices.end(), moving_indices_.data(), moving_indices_.data() + total);
  codes.values.insert(codes.values.end(), moving_values_.data(), moving_values_.data() + total);
}

}  // namespace shrinkwarp
