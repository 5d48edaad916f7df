#include "runtime/grammar/automaton.h"

#include <algorithm>

#include <fmt/format.h>

#include "runtime/text/utf8.h"

namespace trireme::grammar {
namespace {

// A run of characters whose UTF-8 is a range of bytes at each place.
using ByteRanges = std::vector<std::pair<uint8_t, uint8_t>>;

// Splits [first, last] until the encodings of each part differ by independent ranges of bytes: the
// same length, and below the first byte that differs all continuation bytes.
void split_utf8(char32_t first, char32_t last, std::vector<ByteRanges>& out) {
  static constexpr char32_t kLengthEnds[] = {0x7F, 0x7FF, 0xFFFF, 0x10FFFF};
  for (const char32_t end : kLengthEnds) {
    if (first <= end && end < last) {
      split_utf8(first, end, out);
      split_utf8(end + 1, last, out);
      return;
    }
  }
  for (int bits = 6; bits < 24; bits += 6) {
    const char32_t mask = (char32_t{1} << bits) - 1;
    if (first > 0x7F && (first & ~mask) != (last & ~mask)) {
      if ((first & mask) != 0) {
        split_utf8(first, first | mask, out);
        split_utf8((first | mask) + 1, last, out);
        return;
      }
      if ((last & mask) != mask) {
        split_utf8(first, (last & ~mask) - 1, out);
        split_utf8(last & ~mask, last, out);
        return;
      }
    }
  }
  std::string low, high;
  append_utf8(first, low);
  append_utf8(last, high);
  ByteRanges ranges;
  for (size_t i = 0; i < low.size(); ++i)
    ranges.emplace_back(static_cast<uint8_t>(low[i]), static_cast<uint8_t>(high[i]));
  out.push_back(std::move(ranges));
}

}  // namespace

// From expressions to elements. Every repetition, choice and class inside a sequence gets a rule.
class Automaton::Flattener {
 public:
  Flattener(Automaton& a, const Grammar& grammar, std::span<const CodeRange> alphabet)
      : a_(a), grammar_(grammar), alphabet_(alphabet) {}

  void run() {
    a_.alternatives_.resize(grammar_.rules.size());
    for (size_t i = 0; i < grammar_.rules.size(); ++i)
      define(static_cast<uint32_t>(i), *grammar_.rules[i]);
    while (!pending_.empty()) {
      const auto [rule, e] = pending_.back();
      pending_.pop_back();
      define(rule, *e);
    }
  }

 private:
  using Kind = Expression::Kind;

  void define(uint32_t rule, const Expression& e) {
    switch (e.kind) {
      case Kind::kChoice:
        for (const ExpressionPtr& part : e.parts) alternative(rule, *part);
        return;
      case Kind::kClass: {
        ByteSet single;
        std::vector<ByteRanges> many;
        for (const CodeRange& r : in_alphabet(e.ranges)) {
          // Surrogates are no characters.
          if (r.first < 0xD800) split_utf8(r.first, std::min<char32_t>(r.last, 0xD7FF), many);
          if (r.last > 0xDFFF) split_utf8(std::max<char32_t>(r.first, 0xE000), r.last, many);
        }
        for (const ByteRanges& ranges : many) {
          if (ranges.size() > 1) continue;
          for (int b = ranges[0].first; b <= ranges[0].second; ++b)
            single.set(static_cast<size_t>(b));
        }
        if (single.any()) {
          begin(rule);
          bytes(single);
          end();
        }
        for (const ByteRanges& ranges : many) {
          if (ranges.size() == 1) continue;
          begin(rule);
          for (const auto& [low, high] : ranges) {
            ByteSet set;
            for (int b = low; b <= high; ++b) set.set(static_cast<size_t>(b));
            bytes(set);
          }
          end();
        }
        return;
      }
      case Kind::kRepeat:
        return define_repeat(rule, e);
      default:
        return alternative(rule, e);
    }
  }

  // x{m,}  ->  x ... x r, r -> x r | nothing;   x{m,n}  ->  x ... x (x (x ...)?)?
  void define_repeat(uint32_t rule, const Expression& e) {
    const uint32_t part = inner(*e.parts[0]);
    const uint32_t optional = e.max == kUnbounded ? 1 : e.max - e.min;
    const uint32_t tail = optional > 0 ? new_rule() : 0;
    begin(rule);
    for (uint32_t i = 0; i < e.min; ++i) call(part);
    if (optional > 0) call(tail);
    end();
    if (e.max == kUnbounded) {
      begin(tail);
      call(part);
      call(tail);
      end();
      begin(tail);
      end();
      return;
    }
    uint32_t at = tail;
    for (uint32_t i = 0; i < optional; ++i) {
      const uint32_t following = i + 1 < optional ? new_rule() : 0;
      begin(at);
      call(part);
      if (following != 0) call(following);
      end();
      begin(at);
      end();
      at = following;
    }
  }

  // A rule that is this expression; it is defined later.
  uint32_t inner(const Expression& e) {
    if (e.kind == Kind::kRule) return e.rule;
    const auto [it, is_new] = inner_.emplace(&e, 0);
    if (is_new) {
      it->second = new_rule();
      pending_.emplace_back(it->second, &e);
    }
    return it->second;
  }

  void alternative(uint32_t rule, const Expression& e) {
    begin(rule);
    add(e);
    end();
  }
  void add(const Expression& e) {
    if (e.kind == Kind::kSequence) {
      for (const ExpressionPtr& part : e.parts) add(*part);
    } else if (e.kind == Kind::kLiteral) {
      // What cannot be written leads to no end.
      if (!can_be_written(e.text)) bytes({});
      for (const char c : e.text) {
        ByteSet set;
        set.set(static_cast<uint8_t>(c));
        bytes(set);
      }
    } else {
      call(inner(e));
    }
  }

  std::vector<CodeRange> in_alphabet(const std::vector<CodeRange>& ranges) const {
    if (alphabet_.empty()) return ranges;
    std::vector<CodeRange> inside;
    for (const CodeRange& r : ranges) {
      auto a = std::lower_bound(alphabet_.begin(), alphabet_.end(), r.first,
                                [](const CodeRange& x, char32_t first) { return x.last < first; });
      for (; a != alphabet_.end() && a->first <= r.last; ++a)
        inside.push_back({std::max(a->first, r.first), std::min(a->last, r.last)});
      if (inside.size() > a_.limits_.elements_max) throw GrammarError{"its classes are too large"};
    }
    return inside;
  }
  bool can_be_written(std::string_view text) const {
    if (alphabet_.empty()) return true;
    for (size_t at = 0; at < text.size();) {
      const CodePoint c = code_point_at(text, at);
      if (in_alphabet({{c.value, c.value}}).empty()) return false;
      at += c.bytes;
    }
    return true;
  }

  void begin(uint32_t rule) {
    CHECK(!building_);
    building_ = true;
    current_rule_ = rule;
    current_.clear();
  }
  void bytes(const ByteSet& set) {
    const auto [it, is_new] = set_ids_.emplace(set, a_.sets_.size());
    if (is_new) a_.sets_.push_back(set);
    current_.push_back({Element::Kind::kBytes, static_cast<uint32_t>(it->second)});
    limit();
  }
  void call(uint32_t rule) {
    current_.push_back({Element::Kind::kRule, rule});
    limit();
  }
  void end() {
    a_.alternatives_[current_rule_].push_back(static_cast<uint32_t>(a_.elements_.size()));
    a_.elements_.insert(a_.elements_.end(), current_.begin(), current_.end());
    a_.elements_.push_back({Element::Kind::kEnd, 0});
    building_ = false;
    limit();
  }
  void limit() const {
    if (a_.elements_.size() + current_.size() > a_.limits_.elements_max)
      throw GrammarError{fmt::format("it has more than {} elements: shorten its repetitions",
                                     a_.limits_.elements_max)};
  }
  uint32_t new_rule() {
    if (a_.alternatives_.size() > a_.limits_.elements_max)
      throw GrammarError{"it has too many parts: shorten its repetitions"};
    a_.alternatives_.emplace_back();
    return static_cast<uint32_t>(a_.alternatives_.size() - 1);
  }

  Automaton& a_;
  const Grammar& grammar_;
  const std::span<const CodeRange> alphabet_;
  std::unordered_map<const Expression*, uint32_t> inner_;
  std::vector<std::pair<uint32_t, const Expression*>> pending_;
  std::unordered_map<ByteSet, size_t> set_ids_;
  bool building_ = false;
  uint32_t current_rule_ = 0;
  std::vector<Element> current_;
};

size_t Automaton::VectorHash::operator()(const std::vector<uint32_t>& v) const {
  uint64_t h = v.size();
  for (const uint32_t x : v) h = (h ^ x) * 0x9E3779B97F4A7C15u + (h >> 29);
  return h;
}

Result<Automaton> Automaton::make(const Grammar& grammar, const AutomatonLimits& limits,
                                  std::span<const CodeRange> alphabet) {
  Automaton a;
  a.limits_ = limits;
  for (const ExpressionPtr& r : grammar.rules) {
    if (r == nullptr) return invalid_argument("a rule is named and not defined");
  }
  try {
    Flattener(a, grammar, alphabet).run();
  } catch (const GrammarError& e) {
    return invalid_argument(e.message);
  }
  if (!a.keep_productive())
    return invalid_argument(alphabet.empty()
                                ? "it has no sentence that ends"
                                : "it has no sentence that ends and that the vocabulary can write");
  if (Status s = a.check_left_recursion(grammar); !s.ok()) return s;
  a.find_classes();
  a.stacks_.push_back({});  // 0: nothing below
  CHECK(a.add_state({}) == kDead && a.add_state({}) == kTooMany);
  std::fill_n(a.next_.begin(), a.classes_, kDead);
  std::fill_n(a.next_.begin() + a.classes_, a.classes_, kTooMany);
  std::vector<uint32_t> first;
  for (const uint32_t at : a.alternatives_[0]) first.push_back(a.stack(at, 0));
  a.start_ = a.close(std::move(first));
  CHECK(a.start_ != kDead);
  if (a.start_ == kTooMany)
    return invalid_argument("its beginning can be read in too many ways: make it less ambiguous");
  return a;
}

void Automaton::find_classes() {
  class_of_ = {};
  uint32_t count = 1;
  for (const ByteSet& set : sets_) {
    std::array<int, 256> inside;  // by class: the class of its bytes that are in the set
    inside.fill(-1);
    std::array<bool, 256> outside = {};
    for (size_t b = 0; b < 256; ++b) outside[class_of_[b]] |= !set.test(b);
    for (size_t b = 0; b < 256; ++b) {
      if (!set.test(b)) continue;
      const uint8_t before = class_of_[b];
      if (!outside[before]) continue;
      if (inside[before] < 0) inside[before] = static_cast<int>(count++);
      class_of_[b] = static_cast<uint8_t>(inside[before]);
    }
  }
  classes_ = count;
  class_byte_.resize(count);
  for (size_t b = 0; b < 256; ++b) class_byte_[class_of_[b]] = static_cast<uint8_t>(b);
}

// By rule: whether it has an alternative whose rules all hold and that has no bytes (bytes_hold:
// only sets of bytes that are not empty). Each element is looked at twice.
std::vector<bool> Automaton::hold(bool bytes_hold) const {
  struct Alternative {
    uint32_t rule = 0;
    uint32_t missing = 0;
  };
  std::vector<Alternative> all;
  std::vector<std::pair<uint32_t, uint32_t>> calls;  // rule, alternative
  std::vector<uint32_t> ready;                       // alternatives
  for (uint32_t r = 0; r < alternatives_.size(); ++r) {
    for (uint32_t at : alternatives_[r]) {
      const auto index = static_cast<uint32_t>(all.size());
      all.push_back({r, 0});
      for (; elements_[at].kind != Element::Kind::kEnd; ++at) {
        const Element& e = elements_[at];
        if (e.kind == Element::Kind::kRule) calls.emplace_back(e.index, index);
        if (e.kind == Element::Kind::kRule || !bytes_hold || sets_[e.index].none())
          ++all[index].missing;
      }
      if (all[index].missing == 0) ready.push_back(index);
    }
  }
  std::sort(calls.begin(), calls.end());
  std::vector<bool> holds(alternatives_.size(), false);
  while (!ready.empty()) {
    const uint32_t rule = all[ready.back()].rule;
    ready.pop_back();
    if (holds[rule]) continue;
    holds[rule] = true;
    for (auto at = std::lower_bound(calls.begin(), calls.end(), std::pair(rule, 0u));
         at != calls.end() && at->first == rule; ++at) {
      if (--all[at->second].missing == 0) ready.push_back(at->second);
    }
  }
  return holds;
}

// Drops alternatives that lead to no end, so that what is read can always be completed. False where
// the start has none left.
bool Automaton::keep_productive() {
  const std::vector<bool> productive = hold(/*bytes_hold=*/true);
  const auto ends = [&](uint32_t at) {
    for (; elements_[at].kind != Element::Kind::kEnd; ++at) {
      const Element& e = elements_[at];
      if (e.kind == Element::Kind::kRule ? !productive[e.index] : sets_[e.index].none())
        return false;
    }
    return true;
  };
  for (std::vector<uint32_t>& list : alternatives_)
    std::erase_if(list, [&](uint32_t first) { return !ends(first); });
  return productive[0];
}

// A rule that can come back to itself without reading anything, with something left to do after,
// would grow its stack for ever. Where nothing is left to do it comes back to the same stack, which
// is seen once: a repetition of what may be nothing is harmless. So: strongly connected rules
// (Tarjan) must not have such a call among them.
Status Automaton::check_left_recursion(const Grammar& grammar) const {
  const std::vector<bool> nullable = hold(/*bytes_hold=*/false);
  const auto count = static_cast<uint32_t>(alternatives_.size());
  struct Call {
    uint32_t rule;
    bool leaves;  // something to do after it
  };
  const auto calls_of = [&](uint32_t r) {
    std::vector<Call> calls;
    for (uint32_t at : alternatives_[r]) {
      for (; elements_[at].kind == Element::Kind::kRule; ++at) {
        calls.push_back({elements_[at].index, elements_[at + 1].kind != Element::Kind::kEnd});
        if (!nullable[elements_[at].index]) break;
      }
    }
    return calls;
  };
  struct Visit {
    uint32_t rule;
    std::vector<Call> calls;
    size_t next = 0;
  };
  std::vector<uint32_t> order(count, 0), low(count, 0), component(count, 0);
  std::vector<uint32_t> open;
  uint32_t orders = 0, components = 0;
  for (uint32_t r = 0; r < count; ++r) {
    if (order[r] != 0) continue;
    std::vector<Visit> path;
    const auto enter = [&](uint32_t rule) {
      order[rule] = low[rule] = ++orders;
      open.push_back(rule);
      path.push_back({rule, calls_of(rule), 0});
    };
    enter(r);
    while (!path.empty()) {
      Visit& top = path.back();
      if (top.next < top.calls.size()) {
        const uint32_t to = top.calls[top.next++].rule;
        if (order[to] == 0) {
          enter(to);
        } else if (component[to] == 0) {
          low[top.rule] = std::min(low[top.rule], order[to]);
        }
        continue;
      }
      const uint32_t done = top.rule;
      path.pop_back();
      if (!path.empty()) low[path.back().rule] = std::min(low[path.back().rule], low[done]);
      if (low[done] != order[done]) continue;
      ++components;
      for (uint32_t member = kUnknown; member != done; open.pop_back()) {
        member = open.back();
        component[member] = components;
      }
    }
  }
  for (uint32_t r = 0; r < count; ++r) {
    for (const Call& call : calls_of(r)) {
      if (!call.leaves || component[call.rule] != component[r]) continue;
      std::string who = "a rule";
      for (size_t i = 0; i < grammar.names.size(); ++i) {
        if (component[i] == component[r] && !grammar.names[i].empty())
          who = fmt::format("the rule '{}'", std::string_view(grammar.names[i]).substr(0, 100));
      }
      return invalid_argument(who +
                              " can begin with itself without reading anything: write it so that "
                              "it recurses at its end");
    }
  }
  return {};
}

uint32_t Automaton::stack(uint32_t element, uint32_t below) {
  const auto [it, is_new] =
      stack_ids_.emplace(uint64_t{element} << 32 | below, static_cast<uint32_t>(stacks_.size()));
  if (is_new) stacks_.push_back({element, below});
  return it->second;
}

// Follows calls and ends until every stack waits for a byte.
Automaton::State Automaton::close(std::vector<uint32_t> work) {
  ++mark_;
  std::vector<uint32_t> out;
  bool accepts = false;
  while (!work.empty()) {
    const uint32_t id = work.back();
    work.pop_back();
    if (++work_ > limits_.work_max) return kTooMany;
    if (marks_.size() < stacks_.size()) marks_.resize(stacks_.size() + 1024, 0);
    if (marks_[id] == mark_) continue;
    marks_[id] = mark_;
    const Stack s = stacks_[id];
    const Element e = elements_[s.element];
    if (e.kind == Element::Kind::kBytes) {
      out.push_back(id);
      if (out.size() > limits_.stacks_of_state_max) return kTooMany;
    } else if (e.kind == Element::Kind::kEnd) {
      if (s.below == 0) {
        accepts = true;
      } else {
        work.push_back(s.below);
      }
    } else {
      // A call at the end of its alternative leaves nothing to come back to.
      const bool last = elements_[s.element + 1].kind == Element::Kind::kEnd;
      const uint32_t below = last ? s.below : stack(s.element + 1, s.below);
      for (const uint32_t at : alternatives_[e.index]) work.push_back(stack(at, below));
    }
  }
  return state(std::move(out), accepts);
}

Automaton::State Automaton::state(std::vector<uint32_t> stacks, bool accepts) {
  std::sort(stacks.begin(), stacks.end());
  if (stacks.empty() && !accepts) return kDead;
  std::vector<uint32_t> key = stacks;
  if (accepts) key.push_back(UINT32_MAX);
  const auto [it, is_new] = state_ids_.emplace(std::move(key), static_cast<State>(states_.size()));
  return is_new ? add_state({std::move(stacks), accepts}) : it->second;
}

Automaton::State Automaton::add_state(StateData data) {
  work_ += 8 + classes_ / 4 + data.stacks.size();
  stacks_in_states_ += data.stacks.size();
  ByteSet bytes;
  for (const uint32_t id : data.stacks) bytes |= sets_[elements_[stacks_[id].element].index];
  for (const uint8_t b : class_byte_) next_.push_back(bytes.test(b) ? kUnknown : kDead);
  states_.push_back(std::move(data));
  return static_cast<State>(states_.size() - 1);
}

Automaton::State Automaton::find_next(State from, uint8_t byte) {
  if (work_ > limits_.work_max) return kTooMany;
  std::vector<uint32_t> after;
  const std::vector<uint32_t> tops = states_[from].stacks;
  for (const uint32_t id : tops) {
    const Stack s = stacks_[id];
    if (sets_[elements_[s.element].index].test(byte))
      after.push_back(stack(s.element + 1, s.below));
  }
  work_ += tops.size();
  const State to = close(std::move(after));
  // Where only the steps ran out, later steps may find it.
  if (to != kTooMany) next_[size_t{from} * classes_ + class_of_[byte]] = to;
  return to;
}

size_t Automaton::bytes() const {
  constexpr size_t kNodeBytes = 48;  // of a hash map
  return elements_.size() * sizeof(Element) + sets_.size() * sizeof(ByteSet) +
         stacks_.size() * (sizeof(Stack) + kNodeBytes) + marks_.size() * 4 + next_.size() * 4 +
         states_.size() * (sizeof(StateData) + 2 * kNodeBytes) + stacks_in_states_ * 8;
}

}  // namespace trireme::grammar
