// What a pickle may name and make: the only place that knows torch's side of it.
#include <array>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "runtime/model/weights/pickle_machine.h"
#include "runtime/model/weights/safetensors.h"

namespace trireme {
namespace {

using Kind = PickleValue::Kind;

struct KnownStorage {
  std::string_view name;
  std::string_view dtype;
};
constexpr std::array<KnownStorage, 10> kStorages = {{{"FloatStorage", "F32"},
                                                     {"HalfStorage", "F16"},
                                                     {"BFloat16Storage", "BF16"},
                                                     {"DoubleStorage", "F64"},
                                                     {"LongStorage", "I64"},
                                                     {"IntStorage", "I32"},
                                                     {"ShortStorage", "I16"},
                                                     {"CharStorage", "I8"},
                                                     {"ByteStorage", "U8"},
                                                     {"BoolStorage", "BOOL"}}};

constexpr size_t kStorageKeyBytesMax = 64;

// A tuple of counts, as shapes and strides are.
bool read_counts(const PickleMachine::Items& items, std::vector<int64_t>* out) {
  if (items.size() > kTensorDimensionsMax) return false;
  for (const PickleValue& item : items) {
    if (item.kind != Kind::kInt || item.number < 0) return false;
    out->push_back(item.number);
  }
  return true;
}

// offset + sum((shape - 1) * stride) < elements, for a tensor that has elements at all.
bool fits(const PickledTensor& t) {
  uint64_t last = static_cast<uint64_t>(t.offset);
  for (size_t i = 0; i < t.info.shape.size(); ++i) {
    if (t.info.shape[i] == 0) return t.offset <= t.storage_elements;
    uint64_t reach = 0;
    if (__builtin_mul_overflow(static_cast<uint64_t>(t.info.shape[i] - 1),
                               static_cast<uint64_t>(t.stride[i]), &reach) ||
        __builtin_add_overflow(last, reach, &last)) {
      return false;
    }
  }
  return last < static_cast<uint64_t>(t.storage_elements);
}

}  // namespace

bool PickleMachine::push_global(std::string_view module, std::string_view name) {
  PickleValue value;
  value.kind = Kind::kGlobal;
  if (module == "collections" && name == "OrderedDict") {
    value.global = PickleGlobal::kOrderedDict;
    return push(value);
  }
  if (module == "torch._utils" && name == "_rebuild_tensor_v2") {
    value.global = PickleGlobal::kRebuildTensor;
    return push(value);
  }
  if (module == "torch._utils" && name == "_rebuild_parameter") {
    value.global = PickleGlobal::kRebuildParameter;
    return push(value);
  }
  for (const KnownStorage& known : kStorages) {
    if (module != "torch" || name != known.name) continue;
    value.global = PickleGlobal::kStorageType;
    value.dtype = find_safetensors_dtype(known.dtype);
    return push(value);
  }
  return fail(fmt::format("the pickle wants to call '{}.{}'; only tensors are read",
                          printable(module), printable(name)));
}

// ('storage', type, key, device, elements)
bool PickleMachine::load_storage() {
  PickleValue id;
  if (!pop(&id)) return false;
  const char* const wrong = "the pickle refers to something that is no storage";
  if (id.kind != Kind::kTuple) return fail(wrong);
  const Items& parts = items(id);
  if (parts.size() != 5 || parts[0].kind != Kind::kString || parts[0].text != "storage" ||
      parts[1].kind != Kind::kGlobal || parts[1].global != PickleGlobal::kStorageType ||
      parts[2].kind != Kind::kString || parts[2].text.size() > kStorageKeyBytesMax ||
      parts[4].kind != Kind::kInt || parts[4].number < 0) {
    return fail(wrong);
  }
  if (storages_.size() >= limits_.objects_max) return fail("the pickle has too many storages");
  PickleValue storage = PickleValue::of(Kind::kStorage, static_cast<int64_t>(storages_.size()));
  storages_.push_back({parts[1].dtype, parts[2].text, parts[4].number});
  return push(storage);
}

bool PickleMachine::reduce() {
  PickleValue args, callee;
  if (!pop(&args) || !pop(&callee)) return false;
  if (callee.kind != Kind::kGlobal || args.kind != Kind::kTuple)
    return fail("the pickle calls something that is no function");
  const Items& list = items(args);
  switch (callee.global) {
    case PickleGlobal::kOrderedDict:
      if (!list.empty()) return fail("the pickle makes an OrderedDict in a way torch does not");
      return make(Kind::kOrderedDict, {});
    case PickleGlobal::kRebuildTensor:
      return rebuild_tensor(list);
    case PickleGlobal::kRebuildParameter:
      if (list.size() != 3 || list[0].kind != Kind::kTensor)
        return fail("the pickle makes a parameter of something that is no tensor");
      return push(list[0]);
    case PickleGlobal::kStorageType:
      break;
  }
  return fail("the pickle wants to make a storage; only tensors are read");
}

// (storage, offset, shape, stride, requires_grad, backward_hooks[, metadata])
bool PickleMachine::rebuild_tensor(const Items& args) {
  const char* const wrong = "the pickle describes a tensor in a way torch does not";
  if (args.size() < 6 || args.size() > 7 || args[0].kind != Kind::kStorage ||
      args[1].kind != Kind::kInt || args[1].number < 0 || args[2].kind != Kind::kTuple ||
      args[3].kind != Kind::kTuple) {
    return fail(wrong);
  }
  const Storage& storage = storages_[static_cast<size_t>(args[0].number)];
  PickledTensor tensor;
  tensor.info.dtype_name = storage.dtype->name;
  tensor.info.dtype = storage.dtype->dtype;
  tensor.storage_key = std::string(storage.key);
  tensor.storage_elements = storage.elements;
  tensor.offset = args[1].number;
  if (!read_counts(items(args[2]), &tensor.info.shape) ||
      !read_counts(items(args[3]), &tensor.stride) ||
      tensor.info.shape.size() != tensor.stride.size()) {
    return fail(wrong);
  }
  const Result<size_t> bytes = tensor_bytes(tensor.info.shape, storage.dtype->bits);
  if (!bytes.ok()) return fail(bytes.status().message());
  tensor.info.bytes = *bytes;
  if (!fits(tensor)) return fail("a tensor of the pickle reaches out of its storage");
  if (*bytes / (static_cast<size_t>(storage.dtype->bits) / 8) >
      static_cast<uint64_t>(storage.elements)) {
    return fail(
        "a tensor of the pickle repeats its storage (it was saved from expand()); save a "
        "contiguous copy of it");
  }
  if (tensors_.size() >= limits_.tensors_max) return fail("the pickle has too many tensors");
  PickleValue value = PickleValue::of(Kind::kTensor, static_cast<int64_t>(tensors_.size()));
  tensors_.push_back(std::move(tensor));
  return push(value);
}

}  // namespace trireme
