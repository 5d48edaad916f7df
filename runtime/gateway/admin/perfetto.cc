#include "runtime/gateway/admin/perfetto.h"

#include <algorithm>
#include <iterator>
#include <map>

#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "kernels/base/json.h"

namespace trireme {
namespace {

using Kind = TraceEvent::Kind;
using Name = TraceEvent::Name;

constexpr int kLane = 1;  // the one thread of a rank's engine

std::string quoted(std::string_view text) { return boost::json::serialize(Json(text)); }

class Writer {
 public:
  explicit Writer(const TraceDocument& document) : document_(document) {}

  std::string write() {
    out_ = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[";
    for (const RankTrace& rank : document_.ranks) lane(rank);
    for (const RankTrace& rank : document_.ranks) events(rank);
    arrows();
    requests();
    out_ += "],\"otherData\":";
    out_ += boost::json::serialize(about());
    out_ += "}";
    return std::move(out_);
  }

 private:
  // Before the window is its beginning.
  std::string at(int64_t ns) const {
    const int64_t since = std::max<int64_t>(ns - document_.from_ns, 0);
    return fmt::format("{}.{:03}", since / 1000, since % 1000);
  }
  std::string duration(int64_t begin_ns, int64_t end_ns) const {
    const int64_t ns = end_ns - std::clamp(document_.from_ns, begin_ns, end_ns);
    return fmt::format("{}.{:03}", ns / 1000, ns % 1000);
  }
  template <class... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    if (out_.back() != '[') out_ += ",\n";
    fmt::format_to(std::back_inserter(out_), format, std::forward<Args>(args)...);
  }

  void name_process(size_t pid, std::string_view name) {
    add(R"({{"ph":"M","name":"process_name","pid":{},"args":{{"name":{}}}}})", pid, quoted(name));
    add(R"({{"ph":"M","name":"process_sort_index","pid":{0},"args":{{"sort_index":{0}}}}})", pid);
  }

  void lane(const RankTrace& rank) {
    const auto r = static_cast<size_t>(rank.rank);
    name_process(
        r, r < document_.rank_names.size() ? document_.rank_names[r] : fmt::format("rank {}", r));
    add(R"({{"ph":"M","name":"thread_name","pid":{},"tid":{},"args":{{"name":"engine"}}}})", r,
        kLane);
  }

  // Spans from the outside in: what began together is told in the order of its length.
  void events(const RankTrace& rank) {
    std::vector<TraceEvent> sorted = rank.events;
    std::stable_sort(sorted.begin(), sorted.end(), [](const TraceEvent& a, const TraceEvent& b) {
      return a.begin_ns != b.begin_ns ? a.begin_ns < b.begin_ns : a.end_ns > b.end_ns;
    });
    for (const TraceEvent& e : sorted) {
      if (e.kind == Kind::kCounter) {
        counter(rank.rank, e);
      } else {
        add(R"({{"ph":"X","name":"{}","cat":"engine","pid":{},"tid":{},"ts":{},"dur":{},)"
            R"("args":{{{}}}}})",
            trace_name(e.name), rank.rank, kLane, at(e.begin_ns), duration(e.begin_ns, e.end_ns),
            arguments(e));
        note_arrow(rank.rank, e);
      }
    }
  }

  static std::string arguments(const TraceEvent& e) {
    std::string arguments;
    if (e.step != 0) arguments = fmt::format("\"step\":{}", e.step);
    const std::string_view value = value_name(e.name);
    if (!value.empty())
      arguments += fmt::format("{}\"{}\":{}", arguments.empty() ? "" : ",", value, e.value);
    return arguments;
  }

  // What TraceEvent::value counts; "": nothing.
  static std::string_view value_name(Name name) {
    switch (name) {
      case Name::kPlan:
        return "runs";
      case Name::kPreempt:
        return "sequences";
      case Name::kStep:
      case Name::kHead:
      case Name::kSample:
        return "rows";
      case Name::kCollect:
        return "sampled";
      default:
        return "";
    }
  }

  void counter(int rank, const TraceEvent& e) {
    std::string name(trace_name(e.name));
    if (e.name == Name::kLive || e.name == Name::kCached)
      name += fmt::format(
          " {}", e.aux < document_.block_kinds.size() ? document_.block_kinds[e.aux] : "?");
    add(R"({{"ph":"C","name":{},"pid":{},"ts":{},"args":{{"value":{}}}}})", quoted(name), rank,
        at(e.begin_ns), e.value);
  }

  void note_arrow(int rank, const TraceEvent& e) {
    if (e.name == Name::kTell) told_[e.step] = e.end_ns;
    if (e.name == Name::kPrepare && rank != 0) heard_.push_back({e.step, rank, e.begin_ns});
  }

  void arrows() {
    const size_t ranks = document_.ranks.size();
    for (const auto& [step, rank, begin_ns] : heard_) {
      const auto told = told_.find(step);
      if (told == told_.end()) continue;
      const uint64_t id = step * ranks + static_cast<uint64_t>(rank);
      add(R"({{"ph":"s","name":"step","cat":"engine","id":{},"pid":0,"tid":{},"ts":{}}})", id,
          kLane, at(told->second));
      add(R"({{"ph":"f","bp":"e","name":"step","cat":"engine","id":{},"pid":{},"tid":{},"ts":{}}})",
          id, rank, kLane, at(begin_ns));
    }
  }

  void requests() {
    if (document_.requests.empty()) return;
    const size_t pid = document_.ranks.size();
    name_process(pid, "requests");
    for (const RequestTimeline& t : document_.requests) {
      const int64_t begin = t.received_ns > 0 ? t.received_ns : t.arrived_ns;
      const int64_t end = t.ended_ns > 0 ? t.ended_ns : document_.to_ns;
      const auto phase = [&](std::string_view name, int64_t from, int64_t to, std::string args) {
        if (from == 0) return;  // it did not come to that
        to = to == 0 ? end : to;
        add(R"({{"ph":"b","cat":"request","id":{},"name":"{}","pid":{},"ts":{},"args":{{{}}}}})",
            t.id, name, pid, at(from), args);
        add(R"({{"ph":"e","cat":"request","id":{},"name":"{}","pid":{},"ts":{}}})", t.id, name, pid,
            at(to));
      };
      const std::string name = fmt::format("request {}", t.id);
      add(R"({{"ph":"b","cat":"request","id":{},"name":"{}","pid":{},"ts":{},"args":{{)"
          R"("request_id":{},"priority":{},"prompt_tokens":{},"cached_tokens":{},"choices":{},)"
          R"("output_tokens":{},"preemptions":{},"finish":"{}"}}}})",
          t.id, name, pid, at(begin), quoted(t.label), t.priority, t.prompt_tokens, t.cached_tokens,
          t.choices, t.output_tokens, t.preemptions, finish_reason_name(t.finish));
      if (t.received_ns > 0) phase("tokenize", t.received_ns, t.arrived_ns, "");
      phase("queue", t.arrived_ns, t.scheduled_ns, "");
      phase("prefill", t.scheduled_ns, t.first_token_ns,
            fmt::format("\"tokens\":{},\"steps\":{}", t.prompt_tokens - t.cached_tokens,
                        t.chunks.size()));
      phase("decode", t.first_token_ns, t.ended_ns, fmt::format("\"tokens\":{}", t.output_tokens));
      add(R"({{"ph":"e","cat":"request","id":{},"name":"{}","pid":{},"ts":{}}})", t.id, name, pid,
          at(end));
    }
  }

  JsonObject about() const {
    JsonObject about;
    about["version"] = document_.version;
    about["model"] = document_.model;
    about["from_unix_ms"] = document_.from_unix_ms;
    about["seconds"] = static_cast<double>(document_.to_ns - document_.from_ns) / 1e9;
    JsonArray ranks;
    for (const RankTrace& rank : document_.ranks) {
      JsonObject one;
      one["rank"] = rank.rank;
      one["clock_ahead_us"] = static_cast<double>(rank.clock_ahead_ns) / 1e3;
      // Its ring was too small for the window: what ended before is missing.
      if (rank.lost_until_ns > document_.from_ns)
        one["complete_from_us"] = static_cast<double>(rank.lost_until_ns - document_.from_ns) / 1e3;
      ranks.push_back(std::move(one));
    }
    about["ranks"] = std::move(ranks);
    return about;
  }

  struct Heard {
    uint64_t step = 0;
    int rank = 0;
    int64_t begin_ns = 0;
  };
  const TraceDocument& document_;
  std::string out_;
  std::map<uint64_t, int64_t> told_;
  std::vector<Heard> heard_;
};

}  // namespace

std::string write_perfetto(const TraceDocument& document) { return Writer(document).write(); }

}  // namespace trireme
