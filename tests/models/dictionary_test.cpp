// A prepared dictionary as one block of bytes: what processes share. What else a dictionary is, solves test.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/models/lasso/dictionary.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {
namespace {

Tensor<double> normal(std::int64_t rows, std::int64_t cols, std::uint64_t stream) {
  Tensor<double> values(Context::cpu(1), rows, cols);
  fill_normal(Context::cpu(1), 17, stream, 0, values.vector());
  return values;
}

/// The block of a dictionary that is gone.
std::shared_ptr<Tensor<std::byte>> block_of(const Context& context, MatrixView<const double> D, std::int64_t problems,
                                            const LambdaRule& rule, const LassoOptions& options) {
  const Dictionary dictionary(context, D);
  prepare_dictionary(context, dictionary, problems, rule, options);
  auto block = std::make_shared<Tensor<std::byte>>(Context::cpu(1), dictionary.flat_bytes());
  dictionary.write_flat(block->vector());
  return block;
}

struct Way {
  std::string name;
  LambdaRule rule;
  LassoOptions options;
};

std::vector<Way> ways() {
  const auto way = [](const std::string& name, LambdaRule::Kind kind, double number, Solver solver) {
    Way made{name, {}, {}};
    made.rule.kind = kind;
    made.rule.number = number;
    made.options.solver = solver;
    return made;
  };
  using Kind = LambdaRule::Kind;
  std::vector<Way> all{way("auto", Kind::sample_fraction, 0.3, Solver::automatic),
                       way("working-set", Kind::sample_fraction, 0.3, Solver::working_set),
                       way("plain-working-set", Kind::value, 4, Solver::plain_working_set),
                       way("fista", Kind::sample_fraction, 0.3, Solver::fista),
                       way("fista in double", Kind::sample_fraction, 0.3, Solver::fista),
                       way("ista", Kind::sample_fraction, 0.5, Solver::ista),
                       way("recording", Kind::recording_fraction, 0.3, Solver::working_set),
                       way("path", Kind::max_nonzeros, 4, Solver::automatic),
                       way("groups", Kind::sample_fraction, 0.3, Solver::working_set),
                       way("ridge", Kind::sample_fraction, 0.3, Solver::automatic)};
  all[4].options.gap = 1e-10;
  all[8].options.penalty.group_size = 2;
  all[9].options.penalty.ridge = 0.1;
  return all;
}

/// A small dictionary, one with a Gram matrix in float, and one with neither.
class FlatDictionary : public testing::TestWithParam<std::pair<std::int64_t, std::int64_t>> {};
INSTANTIATE_TEST_SUITE_P(, FlatDictionary,
                         testing::Values(std::pair(20, 44), std::pair(70, 1000), std::pair(70, 1500)));

TEST_P(FlatDictionary, SolvesToTheSameBitsAndMakesNothingAgain) {
  const auto [n, m] = GetParam();
  const std::int64_t problems = 12;
  const Context context = Context::cpu(2);
  const Tensor<double> D = normal(n, m, 0), X = normal(n, problems, 1);
  for (const Way& way : ways()) {
    SCOPED_TRACE(way.name);
    const Dictionary whole(context, D.matrix());
    const LassoBatch wanted = solve_lasso(context, whole, X.matrix(), way.rule, way.options);
    const auto block = block_of(context, D.matrix(), problems, way.rule, way.options);
    const std::vector<std::byte> before(block->data(), block->data() + block->size());
    {
      const Dictionary shared = Dictionary::from_flat(block->vector(), block);
      const LassoBatch found = solve_lasso(context, shared, X.matrix(), way.rule, way.options);
      EXPECT_EQ(found.codes.offsets, wanted.codes.offsets);
      EXPECT_EQ(found.codes.indices, wanted.codes.indices);
      EXPECT_EQ(found.codes.values, wanted.codes.values);
      EXPECT_EQ(found.dual_gap, wanted.dual_gap);
      EXPECT_GT(found.codes.values.size(), 0U);
      EXPECT_EQ(shared.flat_bytes(), block->size()) << "something was made that had not been prepared";
    }
    EXPECT_EQ(block.use_count(), 1);
    EXPECT_TRUE(std::equal(before.begin(), before.end(), block->data())) << "what is shared was written to";
  }
}

TEST(FlatDictionaryOf, OtherInstructionsIsRefused) {
  const Context context = Context::cpu(1);
  const Tensor<double> D = normal(20, 44, 0);
  const auto block = block_of(context, D.matrix(), 1, LambdaRule{}, LassoOptions{});
  *block->data() ^= std::byte{1};
  try {
    Dictionary::from_flat(block->vector(), block);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("other instructions than the"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace shrinkwarp
