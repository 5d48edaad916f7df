#include "launcher/client/load_plan.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include <fmt/format.h>

#include "kernels/base/json.h"
#include "launcher/client/draws.h"

namespace trireme {
namespace {

// Streams of the seed, one per purpose: more requests do not change the first ones.
enum Stream : uint32_t { kArrivals, kLengths, kContents, kPrefixes, kFates };

constexpr int64_t kTokensMax = int64_t{1} << 24;

// Short common words: a token each in the vocabularies of most models.
constexpr std::string_view kWords[] = {
    "time",    "year",     "people", "way",    "day",     "man",    "thing",    "woman",
    "life",    "child",    "world",  "school", "state",   "family", "group",    "country",
    "problem", "hand",     "part",   "place",  "case",    "week",   "company",  "system",
    "program", "question", "work",   "number", "night",   "point",  "home",     "water",
    "room",    "mother",   "area",   "money",  "story",   "fact",   "month",    "lot",
    "right",   "study",    "book",   "eye",    "job",     "word",   "business", "issue",
    "side",    "kind",     "head",   "house",  "service", "friend", "father",   "power",
    "hour",    "game",     "line",   "end",    "member",  "law",    "car",      "city"};

int64_t length(Draws& draws, int64_t mean_length, double ratio) {
  const double m = static_cast<double>(mean_length);
  const int64_t low = std::max<int64_t>(1, static_cast<int64_t>(std::floor(m * (1 - ratio))));
  return draws.integer(low, std::max(low, static_cast<int64_t>(std::ceil(m * (1 + ratio)))));
}

void add_tokens(Draws& draws, int64_t count, const PromptSource& source, BenchPrompt& prompt) {
  for (int64_t i = 0; i < count; ++i) {
    if (!source.ids.empty()) {
      prompt.ids.push_back(
          source.ids[static_cast<size_t>(draws.integer(0, std::ssize(source.ids) - 1))]);
      continue;
    }
    if (!prompt.text.empty()) prompt.text += ' ';
    prompt.text += kWords[static_cast<size_t>(draws.integer(0, std::ssize(kWords) - 1))];
  }
}

// A chat's prompt is one turn of the user.
void as_turn(ApiKind endpoint, BenchPrompt& prompt) {
  if (endpoint != ApiKind::kChat) return;
  prompt.turns.push_back({"user", std::move(prompt.text)});
  prompt.text.clear();
}

Result<PlannedConversation::Turn> read_line(std::string_view line, ApiKind endpoint,
                                            int64_t output_len) {
  const Result<Json> json = parse_json(line);
  if (!json.ok()) return json.status();
  const Json* prompt = find(*json, "prompt");
  PlannedConversation::Turn turn;
  turn.max_tokens = output_len;
  if (prompt != nullptr && prompt->is_string()) {
    turn.prompt.text = std::string(prompt->as_string());
  } else if (prompt != nullptr && prompt->is_array() && endpoint == ApiKind::kCompletions) {
    for (const Json& id : prompt->as_array()) {
      if (!id.is_int64() || id.as_int64() < 0 || id.as_int64() > INT32_MAX)
        return invalid_argument("\"prompt\" holds something that is no token id");
      turn.prompt.ids.push_back(static_cast<int32_t>(id.as_int64()));
    }
  } else {
    return invalid_argument("\"prompt\" must be a string, or a list of token ids for completions");
  }
  if (const Json* max = find(*json, "max_tokens")) {
    if (!max->is_int64() || max->as_int64() < 1 || max->as_int64() > kTokensMax)
      return invalid_argument("\"max_tokens\" must be an integer from 1");
    turn.max_tokens = max->as_int64();
  }
  as_turn(endpoint, turn.prompt);
  return turn;
}

// The file's requests, from its start again where it has fewer than asked for.
Result<std::vector<PlannedConversation>> from_file(const BenchServeOptions& options) {
  const Result<std::string> text = read_file(options.dataset.path);
  if (!text.ok()) return text.status();
  std::vector<PlannedConversation> plan;
  const size_t wanted = static_cast<size_t>(options.dataset.requests);
  std::string_view rest = *text;
  for (size_t number = 1; !rest.empty() && plan.size() < wanted; ++number) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    Result<PlannedConversation::Turn> turn =
        read_line(line, options.endpoint, options.dataset.output_len);
    if (!turn.ok()) return turn.status().at(fmt::format("{}:{}", options.dataset.path, number));
    plan.emplace_back().turns.push_back(turn.take());
  }
  if (plan.empty()) return invalid_argument(options.dataset.path + ": no request in it");
  for (size_t i = 0; plan.size() < wanted; ++i) plan.push_back(PlannedConversation(plan[i]));
  return plan;
}

std::vector<PlannedConversation> generated(const BenchServeOptions& options,
                                           const PromptSource& source) {
  const DatasetOptions& data = options.dataset;
  Draws lengths(options.seed, kLengths), contents(options.seed, kContents);
  Draws shared(options.seed, kPrefixes);
  std::vector<BenchPrompt> prefixes(1);
  if (data.kind == DatasetKind::kSharedPrefix) {
    prefixes.assign(static_cast<size_t>(data.prefixes), {});
    for (BenchPrompt& prefix : prefixes) add_tokens(shared, data.prefix_len, source, prefix);
  }
  const int64_t turns = data.kind == DatasetKind::kMultiTurn ? data.turns : 1;
  std::vector<PlannedConversation> plan;
  for (int64_t made = 0; made < data.requests;) {
    PlannedConversation& conversation = plan.emplace_back();
    for (int64_t t = 0; t < turns && made < data.requests; ++t, ++made) {
      PlannedConversation::Turn& turn = conversation.turns.emplace_back();
      turn.prompt = prefixes[(plan.size() - 1) % prefixes.size()];
      add_tokens(contents, length(lengths, data.input_len, data.range_ratio), source, turn.prompt);
      turn.max_tokens = length(lengths, data.output_len, data.range_ratio);
      as_turn(options.endpoint, turn.prompt);
    }
  }
  return plan;
}

}  // namespace

std::vector<double> arrival_times(const ArrivalOptions& options, size_t count, uint64_t seed) {
  using Ramp = ArrivalOptions::Ramp;
  std::vector<double> times(count, 0);
  if (options.ramp == Ramp::kNone && options.rate == kAllAtOnce) return times;
  Draws draws(seed, kArrivals);
  double now = 0;
  for (size_t i = 0; i < count; ++i) {
    const double part = count < 2 ? 0 : static_cast<double>(i) / static_cast<double>(count - 1);
    double rate = options.rate;
    if (options.ramp == Ramp::kLinear) rate = std::lerp(options.ramp_start, options.ramp_end, part);
    if (options.ramp == Ramp::kExponential)
      rate = options.ramp_start * std::pow(options.ramp_end / options.ramp_start, part);
    now += draws.gamma(options.burstiness, 1 / (rate * options.burstiness));
    times[i] = now;
  }
  return times;
}

Result<std::vector<PlannedConversation>> plan_load(const BenchServeOptions& options,
                                                   const PromptSource& source) {
  CHECK(options.dataset.requests > 0);
  // A conversation's later turns hold answers, which are text.
  const bool ids =
      options.endpoint == ApiKind::kCompletions && options.dataset.kind != DatasetKind::kMultiTurn;
  std::vector<PlannedConversation> plan;
  if (options.dataset.kind == DatasetKind::kFile) {
    Result<std::vector<PlannedConversation>> read = from_file(options);
    if (!read.ok()) return read;
    plan = read.take();
  } else {
    plan = generated(options, ids ? source : PromptSource());
  }
  const std::vector<double> times = arrival_times(options.arrivals, plan.size(), options.seed);
  Draws fates(options.seed, kFates);
  for (size_t i = 0; i < plan.size(); ++i) {
    plan[i].arrival_s = times[i];
    for (PlannedConversation::Turn& turn : plan[i].turns) {
      const double cancel = fates.uniform(), where = fates.uniform();
      if (cancel < options.cancel_fraction) turn.cancel_at = where;
      turn.slow = fates.uniform() < options.slow_readers;
    }
  }
  return plan;
}

}  // namespace trireme
