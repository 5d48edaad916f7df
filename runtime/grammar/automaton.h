// A pushdown automaton over bytes, made from a grammar, and the states it can be in.
//
// The grammar is flattened into elements: sets of bytes, calls of rules, ends of alternatives. A
// stack is a place among the elements and what follows when its alternative has ended; equal stacks
// are one. A state is a set of stacks that all wait for a byte (every way to read what was read so
// far), and equal states are one, so that what is found out about a state is found out once.
//
// One thread at a time.
#pragma once

#include <bitset>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/grammar/expression.h"

namespace trireme::grammar {

using ByteSet = std::bitset<256>;

struct AutomatonLimits {
  size_t elements_max = 1 << 20;
  size_t stacks_max = 1 << 21;  // known at a time; beyond, the automaton is full()
  size_t stacks_of_state_max = 1 << 14;
};

class Automaton {
 public:
  using State = uint32_t;
  static constexpr State kDead = 0;  // nothing can follow what was read

  // kInvalidArgument: the grammar recurses on its left, has a rule that is not defined, is too
  // large, or has no sentence.
  static Result<Automaton> make(const Grammar& grammar, const AutomatonLimits& limits = {});

  State start() const { return start_; }
  State next(State state, uint8_t byte);
  // What was read is a sentence.
  bool accepts(State state) const { return states_[state].accepts; }
  // The bytes that may come next.
  const ByteSet& bytes(State state) const { return states_[state].bytes; }

  // So many stacks and states are known that it should be made anew.
  bool full() const { return stacks_.size() > limits_.stacks_max; }
  size_t states() const { return states_.size(); }

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
    ByteSet bytes;
    std::unordered_map<uint8_t, State> next;
  };
  struct VectorHash {
    size_t operator()(const std::vector<uint32_t>& v) const;
  };
  class Flattener;

  uint32_t stack(uint32_t element, uint32_t below);
  void close(uint32_t stack, std::vector<uint32_t>& out, bool& accepts);
  State state(std::vector<uint32_t> stacks, bool accepts);
  bool keep_productive();
  Status check_left_recursion() const;
  std::vector<bool> find_nullable() const;

  AutomatonLimits limits_;
  std::vector<Element> elements_;
  std::vector<ByteSet> sets_;
  std::vector<std::vector<uint32_t>> alternatives_;  // by rule: first elements
  std::vector<Stack> stacks_;
  std::unordered_map<uint64_t, uint32_t> stack_ids_;
  std::vector<StateData> states_;
  std::unordered_map<std::vector<uint32_t>, State, VectorHash> state_ids_;
  std::vector<uint32_t> marks_;  // by stack: the closing in which it was seen
  uint32_t mark_ = 0;
  State start_ = kDead;
};

}  // namespace trireme::grammar
