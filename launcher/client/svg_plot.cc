#include "launcher/client/svg_plot.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

namespace trireme {
namespace {

constexpr double kWidth = 460, kHeight = 300;  // of a panel
constexpr double kLeft = 64, kRight = 16, kTop = 34, kBottom = 46;
constexpr double kTitle = 40;
// Okabe and Ito's colours, told apart by colour-blind readers.
constexpr const char* kColors[] = {"#0072b2", "#d55e00", "#009e73",
                                   "#cc79a7", "#e69f00", "#56b4e9"};

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (static_cast<unsigned char>(c) >= ' ')
      out += c;
  }
  return out;
}

struct Axis {
  double low = 0, high = 1;
  double from = 0, to = 1;  // pixels
  bool log = false;
  double at(double v) const {
    const double part =
        log ? (std::log10(v) - std::log10(low)) / (std::log10(high) - std::log10(low))
            : (v - low) / (high - low);
    return from + (to - from) * part;
  }
  std::vector<double> ticks() const {
    if (!log) return round_ticks(low, high, 5);
    std::vector<double> ticks;
    for (double t = low; t <= high * 1.001; t *= 10) ticks.push_back(t);
    return ticks;
  }
};

struct Extent {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void add(double v) {
    low = std::min(low, v);
    high = std::max(high, v);
  }
};

class Panel {
 public:
  Panel(const PlotPanel& panel, double x, double y) : panel_(panel) {
    Extent xs, ys;
    ys.add(0);
    for (const PlotSeries& s : panel.series) {
      for (const auto& [px, py] : s.points) {
        if (!shown(px, py)) continue;
        xs.add(px);
        if (s.style == PlotSeries::Style::kBars) xs.add(px + s.bar_width);
        ys.add(py);
      }
    }
    if (!(xs.low <= xs.high)) xs = panel.x_log ? Extent{1, 10} : Extent{0, 1};
    x_ = {xs.low, xs.high, x + kLeft, x + kWidth - kRight, panel.x_log};
    y_ = {ys.low, ys.high, y + kHeight - kBottom, y + kTop, false};
    if (panel.x_log) {
      x_.low = std::pow(10, std::floor(std::log10(xs.low)));
      x_.high = std::pow(10, std::ceil(std::log10(xs.high)));
      if (x_.high <= x_.low) x_.high = x_.low * 10;
    } else {
      x_.low = std::min(0.0, xs.low);
      widen(x_);
    }
    widen(y_);
  }

  std::string draw() {
    frame();
    size_t color = 0, legend = 0;
    for (const PlotSeries& s : panel_.series) {
      const char* const paint = kColors[color++ % std::size(kColors)];
      series(s, paint);
      if (!s.name.empty()) name(s.name, paint, legend++);
    }
    return std::move(out_);
  }

 private:
  bool shown(double px, double py) const {
    return std::isfinite(px) && std::isfinite(py) && (!panel_.x_log || px > 0);
  }

  // To the next tick, so that the last label stands at the end.
  static void widen(Axis& axis) {
    if (!(axis.high > axis.low)) axis.high = axis.low + 1;
    const std::vector<double> ticks = round_ticks(axis.low, axis.high, 5);
    axis.low = std::min(axis.low, ticks.front());
    axis.high = std::max(axis.high, ticks.back());
  }

  void line(double x1, double y1, double x2, double y2, const char* color, double width) {
    out_ += fmt::format(
        "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" "
        "stroke-width=\"{:g}\"/>\n",
        x1, y1, x2, y2, color, width);
  }
  void text(double x, double y, const std::string& words, const char* anchor, int size,
            bool upright = false) {
    out_ += fmt::format(
        "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" font-size=\"{}\"{}>{}</text>\n", x, y,
        anchor, size, upright ? fmt::format(" transform=\"rotate(-90 {:.1f} {:.1f})\"", x, y) : "",
        escaped(words));
  }

  void frame() {
    text((x_.from + x_.to) / 2, y_.to - 12, panel_.title, "middle", 13);
    for (const double t : x_.ticks()) {
      line(x_.at(t), y_.from, x_.at(t), y_.to, "#e4e4e4", 1);
      text(x_.at(t), y_.from + 16, fmt::format("{:g}", t), "middle", 11);
    }
    for (const double t : y_.ticks()) {
      line(x_.from, y_.at(t), x_.to, y_.at(t), "#e4e4e4", 1);
      text(x_.from - 6, y_.at(t) + 4, fmt::format("{:g}", t), "end", 11);
    }
    line(x_.from, y_.from, x_.to, y_.from, "#444", 1);
    line(x_.from, y_.from, x_.from, y_.to, "#444", 1);
    text((x_.from + x_.to) / 2, y_.from + 34, panel_.x_label, "middle", 12);
    text(x_.from - 48, (y_.from + y_.to) / 2, panel_.y_label, "middle", 12, true);
  }

  void series(const PlotSeries& s, const char* color) {
    using Style = PlotSeries::Style;
    constexpr size_t kMarkedMax = 32;
    if (s.style == Style::kSpans) {
      for (size_t i = 0; i + 1 < s.points.size(); i += 2) {
        const auto [x1, y1] = s.points[i];
        const auto [x2, y2] = s.points[i + 1];
        if (shown(x1, y1) && shown(x2, y2))
          line(x_.at(x1), y_.at(y1), x_.at(x2), y_.at(y2), color, 1.5);
      }
      return;
    }
    std::string path;
    for (const auto& [px, py] : s.points) {
      if (!shown(px, py)) continue;
      const double x = x_.at(px), y = y_.at(py);
      if (s.style == Style::kBars) {
        out_ += fmt::format(
            "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"/>\n", x,
            y, std::max(0.5, x_.at(px + s.bar_width) - x - 0.5), y_.from - y, color);
      } else if (s.style == Style::kDots || s.points.size() <= kMarkedMax) {
        out_ +=
            fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"/>\n", x, y, color);
      }
      path += fmt::format("{:.1f},{:.1f} ", x, y);
    }
    if (s.style == Style::kLine && !path.empty())
      out_ += fmt::format(
          "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\"/>\n", path,
          color);
  }

  void name(const std::string& words, const char* color, size_t index) {
    const double y = y_.to + 14 + 16 * static_cast<double>(index);
    line(x_.from + 10, y - 4, x_.from + 28, y - 4, color, 3);
    text(x_.from + 34, y, words, "start", 11);
  }

  const PlotPanel& panel_;
  Axis x_, y_;
  std::string out_;
};

}  // namespace

std::vector<double> round_ticks(double low, double high, int wanted) {
  const double span = std::max(high - low, 1e-12);
  const double rough = span / std::max(1, wanted);
  const double ten = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * ten;
  for (const double m : {1.0, 2.0, 5.0}) {
    if (m * ten >= rough * 0.999) {
      step = m * ten;
      break;
    }
  }
  std::vector<double> ticks;
  const double first = std::floor(low / step + 1e-9), last = std::ceil(high / step - 1e-9);
  for (double i = first; i <= last && ticks.size() < 100; ++i) ticks.push_back(i * step);
  return ticks;
}

std::vector<std::pair<double, double>> cumulative(const std::vector<double>& sorted) {
  constexpr size_t kPointsMax = 512;
  std::vector<std::pair<double, double>> points;
  const size_t n = sorted.size(), count = std::min(n, kPointsMax);
  for (size_t i = 0; i < count; ++i) {
    const size_t at = count < 2 ? 0 : i * (n - 1) / (count - 1);
    points.emplace_back(sorted[at], static_cast<double>(at + 1) / static_cast<double>(n));
  }
  return points;
}

std::string svg_plot(const std::string& title, const std::vector<PlotPanel>& panels) {
  const size_t columns = panels.size() > 1 ? 2 : 1;
  const size_t rows = (panels.size() + columns - 1) / columns;
  const double width = kWidth * static_cast<double>(columns);
  const double height = kTitle + kHeight * static_cast<double>(rows);
  std::string out = fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:g}\" height=\"{1:g}\" "
      "viewBox=\"0 0 {0:g} {1:g}\" font-family=\"sans-serif\" fill=\"#222\">\n"
      "<rect width=\"{0:g}\" height=\"{1:g}\" fill=\"#fff\"/>\n"
      "<text x=\"{2:g}\" y=\"26\" text-anchor=\"middle\" font-size=\"15\">{3}</text>\n",
      width, height, width / 2, escaped(title));
  for (size_t i = 0; i < panels.size(); ++i)
    out += Panel(panels[i], kWidth * static_cast<double>(i % columns),
                 kTitle + kHeight * static_cast<double>(i / columns))
               .draw();
  return out + "</svg>\n";
}

}  // namespace trireme
