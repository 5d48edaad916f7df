#include "runtime/grammar/automaton.h"

#include <algorithm>
#include <map>

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
  Flattener(Automaton& a, const Grammar& grammar) : a_(a), grammar_(grammar) {}

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
        for (const CodeRange& r : e.ranges) {
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
      for (const char c : e.text) {
        ByteSet set;
        set.set(static_cast<uint8_t>(c));
        bytes(set);
      }
    } else {
      call(inner(e));
    }
  }

  void begin(uint32_t rule) {
    CHECK(!building_);
    building_ = true;
    current_rule_ = rule;
    current_.clear();
  }
  void bytes(const ByteSet& set) {
    const auto [it, is_new] = set_ids_.emplace(set.to_string(), a_.sets_.size());
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
    a_.alternatives_.emplace_back();
    return static_cast<uint32_t>(a_.alternatives_.size() - 1);
  }

  Automaton& a_;
  const Grammar& grammar_;
  std::unordered_map<const Expression*, uint32_t> inner_;
  std::vector<std::pair<uint32_t, const Expression*>> pending_;
  std::map<std::string, size_t> set_ids_;
  bool building_ = false;
  uint32_t current_rule_ = 0;
  std::vector<Element> current_;
};

size_t Automaton::VectorHash::operator()(const std::vector<uint32_t>& v) const {
  uint64_t h = v.size();
  for (const uint32_t x : v) h = (h ^ x) * 0x9E3779B97F4A7C15u + (h >> 29);
  return h;
}

Result<Automaton> Automaton::make(const Grammar& grammar, const AutomatonLimits& limits) {
  Automaton a;
  a.limits_ = limits;
  for (const ExpressionPtr& r : grammar.rules) {
    if (r == nullptr) return invalid_argument("a rule is named and not defined");
  }
  try {
    Flattener(a, grammar).run();
  } catch (const GrammarError& e) {
    return invalid_argument(e.message);
  }
  if (!a.keep_productive()) return invalid_argument("it has no sentence that ends");
  if (Status s = a.check_left_recursion(); !s.ok()) return s;
  a.stacks_.push_back({});   // 0: nothing below
  a.states_.emplace_back();  // kDead
  std::vector<uint32_t> stacks;
  bool accepts = false;
  for (const uint32_t first : a.alternatives_[0]) {
    std::vector<uint32_t> some;
    a.close(a.stack(first, 0), some, accepts);
    stacks.insert(stacks.end(), some.begin(), some.end());
  }
  a.start_ = a.state(std::move(stacks), accepts);
  if (a.start_ == kDead) return invalid_argument("it has no sentence");
  return a;
}

// Drops alternatives that lead to no end, so that what is read can always be completed. False where
// the start has none left.
bool Automaton::keep_productive() {
  std::vector<bool> productive(alternatives_.size(), false);
  const auto ends = [&](uint32_t at) {
    for (; elements_[at].kind != Element::Kind::kEnd; ++at) {
      const Element& e = elements_[at];
      if (e.kind == Element::Kind::kRule ? !productive[e.index] : sets_[e.index].none())
        return false;
    }
    return true;
  };
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t r = 0; r < alternatives_.size(); ++r) {
      if (productive[r] || std::none_of(alternatives_[r].begin(), alternatives_[r].end(), ends))
        continue;
      productive[r] = changed = true;
    }
  }
  for (std::vector<uint32_t>& list : alternatives_)
    std::erase_if(list, [&](uint32_t first) { return !ends(first); });
  return productive[0];
}

std::vector<bool> Automaton::find_nullable() const {
  std::vector<bool> nullable(alternatives_.size(), false);
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t r = 0; r < alternatives_.size(); ++r) {
      if (nullable[r]) continue;
      for (uint32_t at : alternatives_[r]) {
        while (elements_[at].kind == Element::Kind::kRule && nullable[elements_[at].index]) ++at;
        if (elements_[at].kind != Element::Kind::kEnd) continue;
        nullable[r] = changed = true;
        break;
      }
    }
  }
  return nullable;
}

// A rule that can begin with itself would grow its stack without reading anything. Also a rule that
// repeats what may be nothing.
Status Automaton::check_left_recursion() const {
  const std::vector<bool> nullable = find_nullable();
  enum : uint8_t { kNew, kOpen, kDone };
  std::vector<uint8_t> color(alternatives_.size(), kNew);
  struct Visit {
    uint32_t rule;
    std::vector<uint32_t> begins;
    size_t next = 0;
  };
  const auto visit = [&](uint32_t r) {
    Visit v{r, {}, 0};
    for (uint32_t at : alternatives_[r]) {
      for (; elements_[at].kind == Element::Kind::kRule; ++at) {
        v.begins.push_back(elements_[at].index);
        if (!nullable[elements_[at].index]) break;
      }
    }
    color[r] = kOpen;
    return v;
  };
  for (uint32_t r = 0; r < alternatives_.size(); ++r) {
    if (color[r] != kNew) continue;
    std::vector<Visit> path = {visit(r)};
    while (!path.empty()) {
      Visit& top = path.back();
      if (top.next == top.begins.size()) {
        color[top.rule] = kDone;
        path.pop_back();
        continue;
      }
      const uint32_t to = top.begins[top.next++];
      if (color[to] == kOpen)
        return invalid_argument(
            "a rule can begin with itself without reading anything: write it so that it recurses "
            "at "
            "its end, and repeat nothing that may be empty");
      if (color[to] == kNew) path.push_back(visit(to));
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
void Automaton::close(uint32_t first, std::vector<uint32_t>& out, bool& accepts) {
  ++mark_;
  std::vector<uint32_t> work = {first};
  while (!work.empty()) {
    const uint32_t id = work.back();
    work.pop_back();
    if (marks_.size() < stacks_.size()) marks_.resize(stacks_.size() + 1024, 0);
    if (marks_[id] == mark_) continue;
    marks_[id] = mark_;
    const Stack s = stacks_[id];
    const Element e = elements_[s.element];
    if (e.kind == Element::Kind::kBytes) {
      out.push_back(id);
      if (out.size() > limits_.stacks_of_state_max) return;
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
}

Automaton::State Automaton::state(std::vector<uint32_t> stacks, bool accepts) {
  std::sort(stacks.begin(), stacks.end());
  stacks.erase(std::unique(stacks.begin(), stacks.end()), stacks.end());
  if (stacks.empty() && !accepts) return kDead;
  std::vector<uint32_t> key = stacks;
  if (accepts) key.push_back(UINT32_MAX);
  const auto [it, is_new] = state_ids_.emplace(std::move(key), static_cast<State>(states_.size()));
  if (!is_new) return it->second;
  StateData data;
  data.accepts = accepts;
  for (const uint32_t id : stacks) data.bytes |= sets_[elements_[stacks_[id].element].index];
  data.stacks = std::move(stacks);
  states_.push_back(std::move(data));
  return it->second;
}

Automaton::State Automaton::next(State from, uint8_t byte) {
  if (!states_[from].bytes.test(byte)) return kDead;
  if (const auto known = states_[from].next.find(byte); known != states_[from].next.end())
    return known->second;
  std::vector<uint32_t> stacks;
  bool accepts = false;
  const std::vector<uint32_t> tops = states_[from].stacks;
  for (const uint32_t id : tops) {
    const Stack s = stacks_[id];
    if (sets_[elements_[s.element].index].test(byte))
      close(stack(s.element + 1, s.below), stacks, accepts);
  }
  const State to = state(std::move(stacks), accepts);
  states_[from].next.emplace(byte, to);
  return to;
}

}  // namespace trireme::grammar
