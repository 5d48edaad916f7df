// Numbers about numbers. Pure; any thread.
#pragma once

#include <span>
#include <vector>

namespace trireme {

// The p-th percentile, 0 <= p <= 100, by linear interpolation between the closest ranks (numpy's
// default: Hyndman and Fan's type 7). 0 of no values. `sorted` ascends.
double percentile_of_sorted(std::span<const double> sorted, double p);

double mean(std::span<const double> values);       // 0 of no values
double deviation(std::span<const double> values);  // standard, of the population; 0 of no values

}  // namespace trireme
