// A pushdown automaton over bytes, made from a grammar, and the states it can be in.
//
// The grammar is flattened into elements: sets of bytes, calls of rules, ends of alternatives. A
// stack is a place among the elements and what follows when its alternative has ended; equal stacks
// are one. A state is a set of stacks that all wait for a byte (every way to read what was read so
// far), and equal states are one, so that what is found out about a state is found out once.
//
// One thread at a time.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/grammar/expression.h"

namespace trireme::grammar {

using ByteSet = std::bitset<256>;

struct AutomatonLimits {
  size_t elements_max = 1 << 20;
  size_t stacks_max = 1 << 18;  // known at a time; beyond, the automaton is full()
  size_t states_max = 1 << 15;  // likewise
  size_t stacks_of_state_max = 1 << 12;
  size_t work_max = 1 << 21;  // steps between two begin_work()
};

class Automaton {
 public:
  using State = uint32_t;
  static constexpr State kDead = 0;  // nothing can follow what was read
  // There are too many ways to read what was read, or finding them takes too many steps.
  static constexpr State kTooMany = 1;

  // kInvalidArgument: the grammar recurses on its left, has a rule that is not defined, is too
  // large, or has no sentence.
  // `alphabet`: the only characters that sentences may have, ascending; empty: all.
  static Result<Automaton> make(const Grammar& grammar, const AutomatonLimits& limits = {},
                                std::span<const CodeRange> alphabet = {});

  State start() const { return start_; }
  State next(State state, uint8_t byte) {
    const State known = next_[size_t{state} * classes_ + class_of_[byte]];
    return known != kUnknown ? known : find_next(state, byte);
  }
  // From here on work_max steps may be made; beyond, what is not known is kTooMany.
  void begin_work() { work_ = 0; }
  // What was read is a sentence.
  bool accepts(State state) const { return states_[state].accepts; }
  // So many stacks and states are known that it should be made anew.
  bool full() const {
    return stacks_.size() > limits_.stacks_max || states_.size() > limits_.states_max;
  }
  size_t states() const { return states_.size(); }
  // About what it takes in memory.
  size_t bytes() const;

 private:
  struct Element {
    enum class Kind : uint8_t { kBytes, kRule, kEnd };
    Kind kind = Kind::kEnd;
    uint32_t index = 0;  // of the set, or of the rule
  };
  struct Stack {
    uint32_t element = 0;
    uint32_t below = 0;  // a stack; 0: nothing
  };
  struct StateData {
    std::vector<uint32_t> stacks;  // ascending; each at a kBytes element
    bool accepts = false;
  };
  struct VectorHash {
    size_t operator()(const std::vector<uint32_t>& v) const;
  };
  class Flattener;

  static constexpr State kUnknown = UINT32_MAX;

  uint32_t stack(uint32_t element, uint32_t below);
  // The state of all that `work` leads to without reading.
  State close(std::vector<uint32_t> work);
  State find_next(State state, uint8_t byte);
  State state(std::vector<uint32_t> stacks, bool accepts);
  State add_state(StateData data);
  void find_classes();
  std::vector<bool> hold(bool bytes_hold) const;
  bool keep_productive();
  Status check_left_recursion(const Grammar& grammar) const;

  AutomatonLimits limits_;
  std::vector<Element> elements_;
  std::vector<ByteSet> sets_;
  std::vector<std::vector<uint32_t>> alternatives_;  // by rule: first elements
  std::vector<Stack> stacks_;
  std::unordered_map<uint64_t, uint32_t> stack_ids_;
  std::vector<StateData> states_;
  // Bytes that every set has or lacks together are one class.
  std::array<uint8_t, 256> class_of_ = {};
  std::vector<uint8_t> class_byte_;  // one of each
  uint32_t classes_ = 0;
  std::vector<State> next_;  // [states, classes]
  size_t stacks_in_states_ = 0;
  size_t work_ = 0;
  std::unordered_map<std::vector<uint32_t>, State, VectorHash> state_ids_;
  std::vector<uint32_t> marks_;  // by stack: the closing in which it was seen
  uint32_t mark_ = 0;
  State start_ = kDead;
};

}  // namespace trireme::grammar
