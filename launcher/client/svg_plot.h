// Plots as SVG, written by hand: panels with axes, ticks at round numbers and units, no script and
// nothing from outside. Pure; any thread.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace trireme {

struct PlotSeries {
  enum class Style : uint8_t { kLine, kDots, kBars, kSpans };
  std::string name;  // in the legend; "" = not there
  Style style = Style::kLine;
  // kLine (with dots where there are at most 32), kDots: (x, y). kBars: (left edge, height), each
  // `bar_width` wide. kSpans: two points each, a line from the first to the second.
  std::vector<std::pair<double, double>> points;
  double bar_width = 1;
};

struct PlotPanel {
  std::string title, x_label, y_label;  // labels name the unit
  std::vector<PlotSeries> series;
  bool x_log = false;  // only positive x are drawn then
};

// Panels in two columns. Text is escaped; numbers that are not finite are left out.
std::string svg_plot(const std::string& title, const std::vector<PlotPanel>& panels);

// Ticks at 1, 2 or 5 times a power of ten that cover low..high, about `wanted` of them.
std::vector<double> round_ticks(double low, double high, int wanted);

// The cumulative distribution of `sorted`, at most 512 points: (value, share 0..1).
std::vector<std::pair<double, double>> cumulative(const std::vector<double>& sorted);

}  // namespace trireme
