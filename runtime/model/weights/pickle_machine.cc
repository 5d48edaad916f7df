#include "runtime/model/weights/pickle_machine.h"

#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace trireme {
namespace {

using Kind = PickleValue::Kind;

// pickletools' names for the bytes.
enum Opcode : uint8_t {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kNone = 'N',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kBinFloat = 'G',
  kLong1 = 0x8a,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kBinUnicode = 'X',
  kShortBinUnicode = 0x8c,
  kEmptyTuple = ')',
  kTuple = 't',
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kEmptyList = ']',
  kAppend = 'a',
  kAppends = 'e',
  kEmptyDict = '}',
  kSetItem = 's',
  kSetItems = 'u',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kMemoize = 0x94,
  kBinGet = 'h',
  kLongBinGet = 'j',
  kGlobal = 'c',
  kStackGlobal = 0x93,
  kInst = 'i',
  kObj = 'o',
  kNewObj = 0x81,
  kNewObjEx = 0x92,
  kReduce = 'R',
  kBuild = 'b',
  kBinPersId = 'Q',
  kProto = 0x80,
  kFrame = 0x95,
};

// RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const int more = lead < 0x80   ? 0
                     : lead < 0xc2 ? -1
                     : lead < 0xe0 ? 1
                     : lead < 0xf0 ? 2
                     : lead < 0xf5 ? 3
                                   : -1;
    if (more < 0 || text.size() - i <= static_cast<size_t>(more)) return false;
    for (int k = 1; k <= more; ++k) {
      const auto byte = static_cast<unsigned char>(text[i + static_cast<size_t>(k)]);
      unsigned char low = 0x80, high = 0xbf;
      if (k == 1 && lead == 0xe0) low = 0xa0;
      if (k == 1 && lead == 0xed) high = 0x9f;
      if (k == 1 && lead == 0xf0) low = 0x90;
      if (k == 1 && lead == 0xf4) high = 0x8f;
      if (byte < low || byte > high) return false;
    }
    i += static_cast<size_t>(more) + 1;
  }
  return true;
}

}  // namespace

bool PickleMachine::fail(std::string what) {
  failure_ = data_loss(fmt::format("{} (byte {} of the pickle)", what, opcode_at_));
  return false;
}

Result<PickleValue> PickleMachine::run() {
  if (pickle_.size() > limits_.bytes_max) {
    return resource_exhausted(fmt::format("the pickle has {} bytes; {} is the most that is read",
                                          pickle_.size(), limits_.bytes_max));
  }
  while (!stopped_) {
    opcode_at_ = at_;
    uint8_t opcode = 0;
    if (!read(&opcode) || !step(opcode)) return failure_;
  }
  PickleValue result;
  if (!pop(&result)) return failure_;
  return result;
}

bool PickleMachine::step(uint8_t opcode) {
  bool known = true;
  using Step = bool (PickleMachine::*)(uint8_t, bool*);
  for (const Step group : {&PickleMachine::step_number, &PickleMachine::step_container,
                           &PickleMachine::step_memo, &PickleMachine::step_object}) {
    known = true;
    const bool done = (this->*group)(opcode, &known);
    if (known) return done;
  }
  return fail(fmt::format(
      "the pickle uses instruction 0x{:02x}, which torch.save does not write for tensors", opcode));
}

bool PickleMachine::step_number(uint8_t opcode, bool* known) {
  switch (opcode) {
    case kNone:
      return push({});
    case kNewTrue:
      return push(PickleValue::of(Kind::kBool, 1));
    case kNewFalse:
      return push(PickleValue::of(Kind::kBool, 0));
    case kBinInt:
      return push_int<int32_t>();
    case kBinInt1:
      return push_int<uint8_t>();
    case kBinInt2:
      return push_int<uint16_t>();
    case kLong1:
      return push_long();
    case kBinFloat: {  // the value is never used
      std::span<const std::byte> bytes;
      return read_bytes(8, &bytes) && push(PickleValue::of(Kind::kFloat, 0));
    }
    case kBinUnicode: {
      uint32_t bytes = 0;
      return read(&bytes) && push_text(bytes);
    }
    case kShortBinUnicode: {
      uint8_t bytes = 0;
      return read(&bytes) && push_text(bytes);
    }
    default:
      *known = false;
      return true;
  }
}

template <class T>
bool PickleMachine::push_int() {
  T value = 0;
  return read(&value) && push(PickleValue::of(Kind::kInt, int64_t{value}));
}

// LONG1: little-endian two's complement of 0 to 255 bytes.
bool PickleMachine::push_long() {
  uint8_t count = 0;
  std::span<const std::byte> bytes;
  if (!read(&count) || !read_bytes(count, &bytes)) return false;
  if (count > 8) return fail("the pickle holds a number of more than 64 bits");
  const bool negative = count > 0 && (bytes.back() & std::byte{0x80}) != std::byte{0};
  int64_t value = negative ? -1 : 0;
  if (count > 0) std::memcpy(&value, bytes.data(), count);
  return push(PickleValue::of(Kind::kInt, value));
}

bool PickleMachine::push_text(uint64_t count) {
  std::span<const std::byte> bytes;
  if (!read_bytes(count, &bytes)) return false;
  PickleValue value;
  value.kind = Kind::kString;
  value.text = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  return is_utf8(value.text) ? push(value) : fail("a text of the pickle is not UTF-8");
}

bool PickleMachine::step_container(uint8_t opcode, bool* known) {
  Items items;
  PickleValue dropped;
  switch (opcode) {
    case kMark:
      if (marks_.size() >= limits_.objects_max) return fail("the pickle has too many marks");
      marks_.push_back(stack_.size());
      return true;
    case kPop:
      return pop(&dropped);
    case kEmptyTuple:
      return make(Kind::kTuple, {});
    case kEmptyList:
      return make(Kind::kList, {});
    case kEmptyDict:
      return make(Kind::kDict, {});
    case kTuple:
      return pop_to_mark(&items) && make(Kind::kTuple, std::move(items));
    case kTuple1:
    case kTuple2:
    case kTuple3:
      items.resize(static_cast<size_t>(opcode - kTuple1) + 1);
      return pop_items(&items) && make(Kind::kTuple, std::move(items));
    case kAppend:
      items.resize(1);
      return pop_items(&items) && add(items, Kind::kList, Kind::kList);
    case kAppends:
      return pop_to_mark(&items) && add(items, Kind::kList, Kind::kList);
    case kSetItem:
      items.resize(2);
      return pop_items(&items) && add(items, Kind::kDict, Kind::kOrderedDict);
    case kSetItems:
      if (!pop_to_mark(&items)) return false;
      if (items.size() % 2 != 0) return fail("a dict of the pickle has a key without a value");
      return add(items, Kind::kDict, Kind::kOrderedDict);
    default:
      *known = false;
      return true;
  }
}

bool PickleMachine::step_memo(uint8_t opcode, bool* known) {
  uint8_t narrow = 0;
  uint32_t wide = 0;
  switch (opcode) {
    case kBinPut:
      return read(&narrow) && memoize(narrow);
    case kLongBinPut:
      return read(&wide) && memoize(wide);
    case kMemoize:
      return memoize(memo_.size());
    case kBinGet:
      return read(&narrow) && recall(narrow);
    case kLongBinGet:
      return read(&wide) && recall(wide);
    default:
      *known = false;
      return true;
  }
}

bool PickleMachine::recall(uint64_t index) {
  const auto at = memo_.find(index);
  return at != memo_.end() ? push(at->second)
                           : fail("the pickle uses a value that it has not stored");
}

bool PickleMachine::memoize(uint64_t index) {
  if (stack_.empty()) return fail("the pickle stores a value that is not there");
  if (memo_.size() >= limits_.objects_max) return fail("the pickle stores too many values");
  memo_[index] = stack_.back();
  return true;
}

bool PickleMachine::step_object(uint8_t opcode, bool* known) {
  PickleValue a, b;
  std::string_view module, name;
  switch (opcode) {
    case kProto: {
      uint8_t version = 0;
      if (!read(&version)) return false;
      return version <= 5 || fail(fmt::format("pickle protocol {} is unknown", version));
    }
    case kFrame: {  // a hint how much follows
      uint64_t bytes = 0;
      return read(&bytes);
    }
    case kStop:
      stopped_ = true;
      return true;
    case kGlobal:
      return read_line(&module) && read_line(&name) && push_global(module, name);
    case kStackGlobal:
      if (!pop(&b) || !pop(&a)) return false;
      if (a.kind != Kind::kString || b.kind != Kind::kString)
        return fail("the pickle names a global that is no text");
      return push_global(a.text, b.text);
    case kInst:  // names its class: say which
      return read_line(&module) && read_line(&name) && push_global(module, name) &&
             fail("the pickle wants to make an object; only tensors are read");
    case kObj:
    case kNewObj:
    case kNewObjEx:
      return fail("the pickle wants to make an object; only tensors are read");
    case kReduce:
      return reduce();
    case kBuild:  // state_dict() carries module versions as an attribute; nothing of it is kept
      if (!pop(&b) || !top(Kind::kOrderedDict, Kind::kOrderedDict, &a)) return false;
      return b.kind == Kind::kDict || fail("an OrderedDict has a state that is no dict");
    case kBinPersId:
      return load_storage();
    default:
      *known = false;
      return true;
  }
}

bool PickleMachine::read_bytes(size_t count, std::span<const std::byte>* out) {
  if (count > pickle_.size() - at_) return fail("the pickle is cut short");
  *out = pickle_.subspan(at_, count);
  at_ += count;
  return true;
}

template <class T>
bool PickleMachine::read(T* out) {
  std::span<const std::byte> bytes;
  if (!read_bytes(sizeof(T), &bytes)) return false;
  std::memcpy(out, bytes.data(), sizeof(T));
  return true;
}

bool PickleMachine::read_line(std::string_view* out) {
  const std::string_view rest(reinterpret_cast<const char*>(pickle_.data()) + at_,
                              pickle_.size() - at_);
  const size_t end = rest.find('\n');
  if (end == std::string_view::npos) return fail("the pickle is cut short");
  *out = rest.substr(0, end);
  at_ += end + 1;
  return true;
}

bool PickleMachine::push(PickleValue value) {
  stack_.push_back(value);
  return true;
}

// What lies below a mark belongs to whoever set it.
bool PickleMachine::pop(PickleValue* out) {
  const size_t floor = marks_.empty() ? 0 : marks_.back();
  if (stack_.size() <= floor) return fail("the pickle takes a value that is not there");
  *out = stack_.back();
  stack_.pop_back();
  return true;
}

bool PickleMachine::pop_to_mark(Items* out) {
  if (marks_.empty()) return fail("the pickle closes a group that it has not opened");
  const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
  out->assign(first, stack_.end());
  stack_.erase(first, stack_.end());
  marks_.pop_back();
  return true;
}

bool PickleMachine::pop_items(Items* out) {
  for (size_t i = out->size(); i-- > 0;)
    if (!pop(&(*out)[i])) return false;
  return true;
}

bool PickleMachine::add(const Items& more, Kind a, Kind b) {
  PickleValue target;
  if (!top(a, b, &target)) return false;
  Items& to = containers_[static_cast<size_t>(target.number)];
  to.insert(to.end(), more.begin(), more.end());
  return true;
}

bool PickleMachine::top(Kind a, Kind b, PickleValue* out) {
  const size_t floor = marks_.empty() ? 0 : marks_.back();
  if (stack_.size() <= floor || (stack_.back().kind != a && stack_.back().kind != b))
    return fail("the pickle adds to something that is no list or dict");
  *out = stack_.back();
  return true;
}

bool PickleMachine::make(Kind kind, Items items) {
  if (containers_.size() >= limits_.objects_max) return fail("the pickle has too many objects");
  containers_.push_back(std::move(items));
  return push(PickleValue::of(kind, static_cast<int64_t>(containers_.size() - 1)));
}

}  // namespace trireme
