// Statistics against values computed by hand and by numpy 1.24; random numbers against their
// distributions' moments.
#include "launcher/client/stats.h"

#include <cmath>

#include <gtest/gtest.h>

#include "launcher/client/draws.h"
#include "launcher/client/load_plan.h"

namespace trireme {
namespace {

TEST(Stats, PercentilesAreNumpysLinearRule) {
  const std::vector<double> v = {1, 2, 4, 8, 16};
  EXPECT_DOUBLE_EQ(percentile_of_sorted(v, 0), 1);
  EXPECT_DOUBLE_EQ(percentile_of_sorted(v, 50), 4);
  EXPECT_DOUBLE_EQ(percentile_of_sorted(v, 90), 12.8);   // rank 3.6: 8 + 0.6 * 8
  EXPECT_DOUBLE_EQ(percentile_of_sorted(v, 99), 15.68);  // rank 3.96
  EXPECT_DOUBLE_EQ(percentile_of_sorted(v, 100), 16);
  EXPECT_DOUBLE_EQ(percentile_of_sorted(std::vector<double>{7}, 99), 7);
  EXPECT_DOUBLE_EQ(percentile_of_sorted({}, 99), 0);
}

TEST(Stats, MeanAndDeviationOfThePopulation) {
  const std::vector<double> v = {2, 4, 4, 4, 5, 5, 7, 9};
  EXPECT_DOUBLE_EQ(mean(v), 5);
  EXPECT_DOUBLE_EQ(deviation(v), 2);
  EXPECT_DOUBLE_EQ(mean({}), 0);
}

// Mean k * theta, variance k * theta^2; 20,000 draws, bounds of five standard errors and more.
TEST(Draws, GammaHasItsMoments) {
  for (const double shape : {0.25, 1.0, 4.0}) {
    Draws draws(11, 0);
    std::vector<double> values;
    for (int i = 0; i < 20000; ++i) values.push_back(draws.gamma(shape, 0.5));
    EXPECT_NEAR(mean(values), shape * 0.5, 0.05 * shape * 0.5 + 0.01) << shape;
    EXPECT_NEAR(deviation(values), std::sqrt(shape) * 0.5, 0.05 * std::sqrt(shape)) << shape;
  }
}

TEST(Draws, StreamsOfASeedRepeatAndDiffer) {
  Draws a(5, 1), again(5, 1), other(5, 2), seed(6, 1);
  const double first = a.uniform();
  EXPECT_EQ(first, again.uniform());
  EXPECT_NE(first, other.uniform());
  EXPECT_NE(first, seed.uniform());
  int seen[3] = {};
  for (int i = 0; i < 3000; ++i) ++seen[a.integer(-1, 1) + 1];
  for (const int n : seen) EXPECT_NEAR(n, 1000, 150);
}

TEST(Arrivals, PoissonOfARate) {
  const std::vector<double> times = arrival_times({.rate = 10}, 4000, 3);
  EXPECT_TRUE(std::is_sorted(times.begin(), times.end()));
  EXPECT_NEAR(times.back(), 400, 40);
  std::vector<double> gaps;
  for (size_t i = 1; i < times.size(); ++i) gaps.push_back(times[i] - times[i - 1]);
  EXPECT_NEAR(deviation(gaps), 0.1, 0.01);  // an exponential's deviation is its mean
  EXPECT_EQ(times, arrival_times({.rate = 10}, 4000, 3));
  EXPECT_NE(times, arrival_times({.rate = 10}, 4000, 4));
}

TEST(Arrivals, AllAtOnceBurstsAndRamps) {
  EXPECT_EQ(arrival_times({}, 3, 1), std::vector<double>(3, 0));
  const auto gaps_of = [](const ArrivalOptions& o) {
    const std::vector<double> t = arrival_times(o, 2000, 1);
    std::vector<double> gaps;
    for (size_t i = 1; i < t.size(); ++i) gaps.push_back(t[i] - t[i - 1]);
    return gaps;
  };
  // Shape 16: deviation a quarter of the mean.
  EXPECT_NEAR(deviation(gaps_of({.rate = 5, .burstiness = 16})), 0.05, 0.005);
  const std::vector<double> ramp =
      gaps_of({.ramp = ArrivalOptions::Ramp::kLinear, .ramp_start = 1, .ramp_end = 10});
  const auto part = [&](size_t a, size_t b) { return mean(std::span(ramp).subspan(a, b - a)); };
  EXPECT_GT(part(0, 300), 3 * part(1700, 1999));
}

}  // namespace
}  // namespace trireme
