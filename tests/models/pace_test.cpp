// How wide a batch may be: the bound of what a killed process loses, in numbers that can be checked by hand.
#include <gtest/gtest.h>

#include <shrinkwarp/models/lasso/pace.hpp>

namespace shrinkwarp {
namespace {

TEST(Pace, StartsWithTheSureWidth) {
  EXPECT_EQ(Pace().width(0), Pace::kSure);
  EXPECT_EQ(Pace().young_rounds(), 0);
}

TEST(Pace, IsAsWideAsProblemsLeaveInHalfOfTheTime) {
  Pace pace;
  for (int i = 0; i < 50; ++i) pace.round(0.01, 100);  // 10000 a second
  EXPECT_NEAR(static_cast<double>(pace.width(0)), 10000 * Pace::kYoung / 2, 1);
  EXPECT_EQ(pace.width(1), Pace::kBesideOld);
  EXPECT_EQ(pace.width(Pace::kSure / 2 - 1), Pace::kBesideOld);
  EXPECT_EQ(pace.width(Pace::kSure / 2), Pace::kSure);
  for (int i = 0; i < 1000; ++i) pace.round(0.01, 1);  // 100 a second, for long
  EXPECT_EQ(pace.width(0), Pace::kSure);
}

TEST(Pace, ForgetsWithinSeconds) {
  Pace pace;
  for (int i = 0; i < 1000; ++i) pace.round(0.01, 100);
  for (int i = 0; i < 10; ++i) pace.round(Pace::kYoung, 0);
  EXPECT_EQ(pace.width(0), Pace::kSure);
}

TEST(Pace, CountsTheRoundsOfTheLastSeconds) {
  Pace pace;
  for (int i = 0; i < 1000; ++i) pace.round(0.125, 1);  // 7 of these in .96 s; eighths add up exactly
  EXPECT_EQ(pace.young_rounds(), 7);
  pace.round(0.5, 1);
  EXPECT_EQ(pace.young_rounds(), 4);
  pace.round(5, 1);
  EXPECT_EQ(pace.young_rounds(), 0);
  pace.round(0, 0);  // no time at all
  EXPECT_EQ(pace.young_rounds(), 1);
}

}  // namespace
}  // namespace shrinkwarp
