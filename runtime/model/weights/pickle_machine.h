// The stack machine of unpickler.cc, used by it alone: pickle instructions over plain values
// (pickle_machine.cc), and the few objects that they may make (pickle_objects.cc).
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/model/weights/unpickler.h"

namespace trireme {

// The globals a pickle may name.
enum class PickleGlobal : uint8_t { kOrderedDict, kRebuildTensor, kRebuildParameter, kStorageType };

// A pickled value. Copies are cheap and share what they refer to, as Python's references do.
struct PickleValue {
  enum class Kind : uint8_t {
    kNone,
    kBool,
    kInt,
    kFloat,
    kString,
    kTuple,
    kList,
    kDict,
    kOrderedDict,
    kGlobal,
    kStorage,
    kTensor,
  };
  Kind kind = Kind::kNone;
  PickleGlobal global{};                    // of a kGlobal
  const SafetensorsDType* dtype = nullptr;  // of a kStorageType
  int64_t number = 0;     // an int or bool; of the kinds below, the index of the object
  std::string_view text;  // a string, viewed in the pickle

  static PickleValue of(Kind kind, int64_t number) {
    PickleValue value;
    value.kind = kind;
    value.number = number;
    return value;
  }
};

class PickleMachine {
 public:
  struct Storage {
    const SafetensorsDType* dtype = nullptr;
    std::string_view key;
    int64_t elements = 0;
  };
  // Items of a tuple or list; of a dict, key, value, key, value.
  using Items = std::vector<PickleValue>;

  PickleMachine(std::span<const std::byte> pickle, const PickleLimits& limits)
      : pickle_(pickle), limits_(limits) {}

  // Runs to STOP; the result is what is left on the stack then.
  Result<PickleValue> run();

  // REQUIRES: `value` is a tuple, list or dict of this machine; a tensor of it.
  const Items& items(const PickleValue& value) const {
    return containers_[static_cast<size_t>(value.number)];
  }
  const PickledTensor& tensor(const PickleValue& value) const {
    return tensors_[static_cast<size_t>(value.number)];
  }

 private:
  using Kind = PickleValue::Kind;

  // Each of these returns false where it fails, with the reason in failure_. The step of one group
  // of instructions says in *known whether the instruction is of its group.
  bool step(uint8_t opcode);
  bool step_number(uint8_t opcode, bool* known);
  bool step_container(uint8_t opcode, bool* known);
  bool step_memo(uint8_t opcode, bool* known);
  bool step_object(uint8_t opcode, bool* known);

  // The reading side: bounded reads that move on.
  bool read_bytes(size_t count, std::span<const std::byte>* out);
  template <class T>
  bool read(T* out);
  bool read_line(std::string_view* out);

  // The stack.
  bool push(PickleValue value);
  bool pop(PickleValue* out);
  bool pop_items(Items* out);  // out->size() of them
  bool pop_to_mark(Items* out);
  bool top(Kind a, Kind b, PickleValue* out);
  // Puts `more` into the container of kind a or b that is on top.
  bool add(const Items& more, Kind a, Kind b);
  bool make(Kind kind, Items items);
  template <class T>
  bool push_int();
  bool push_long();
  bool push_text(uint64_t bytes);

  // Objects.
  bool push_global(std::string_view module, std::string_view name);
  bool load_storage();
  bool reduce();
  bool rebuild_tensor(const Items& args);
  bool memoize(uint64_t index);
  bool recall(uint64_t index);

  bool fail(std::string what);

  std::span<const std::byte> pickle_;
  PickleLimits limits_;
  size_t at_ = 0;  // next byte
  size_t opcode_at_ = 0;
  bool stopped_ = false;
  Status failure_;
  Items stack_;
  std::vector<size_t> marks_;  // stack heights
  std::unordered_map<uint64_t, PickleValue> memo_;
  std::deque<Items> containers_;
  std::vector<Storage> storages_;
  std::vector<PickledTensor> tensors_;
};

}  // namespace trireme
