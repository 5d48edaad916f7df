#include "runtime/model/weights/unpickler.h"

#include <map>
#include <string_view>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "runtime/model/weights/pickle_machine.h"

namespace trireme {
namespace {

using Kind = PickleValue::Kind;

std::string_view kind_name(Kind kind) {
  switch (kind) {
    case Kind::kNone:
      return "None";
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat:
      return "a number";
    case Kind::kString:
      return "a text";
    case Kind::kTuple:
    case Kind::kList:
      return "a list";
    case Kind::kDict:
    case Kind::kOrderedDict:
      return "a dict";
    case Kind::kGlobal:
      return "a function";
    case Kind::kStorage:
      return "a storage";
    case Kind::kTensor:
      return "a tensor";
  }
  return "unknown";
}

// Two tensors over one storage agree on what it is.
Status check_storages(const std::vector<PickledTensor>& tensors) {
  std::map<std::string_view, const PickledTensor*> seen;
  for (const PickledTensor& tensor : tensors) {
    const auto [first, is_new] = seen.try_emplace(tensor.storage_key, &tensor);
    if (is_new || (first->second->info.dtype_name == tensor.info.dtype_name &&
                   first->second->storage_elements == tensor.storage_elements)) {
      continue;
    }
    return data_loss(fmt::format("tensors '{}' and '{}' share a storage and disagree about it",
                                 printable(first->second->info.name), printable(tensor.info.name)));
  }
  return {};
}

}  // namespace

bool PickledTensor::contiguous() const {
  int64_t expected = 1;
  for (size_t i = info.shape.size(); i-- > 0;) {
    if (info.shape[i] == 0) return true;
    if (info.shape[i] != 1 && stride[i] != expected) return false;
    expected *= info.shape[i];
  }
  return true;
}

Result<std::vector<PickledTensor>> unpickle_tensors(std::span<const std::byte> pickle,
                                                    const PickleLimits& limits) {
  PickleMachine machine(pickle, limits);
  const Result<PickleValue> root = machine.run();
  if (!root.ok()) return root.status();
  if (root->kind != Kind::kDict && root->kind != Kind::kOrderedDict) {
    return invalid_argument(
        fmt::format("the pickle holds {} and not a dict of tensors; save model.state_dict() alone",
                    kind_name(root->kind)));
  }
  std::vector<PickledTensor> tensors;
  std::unordered_set<std::string_view> names;
  const PickleMachine::Items& items = machine.items(*root);
  if (items.size() / 2 > limits.tensors_max) {
    return resource_exhausted(
        fmt::format("the pickle names {} tensors; {} are the most that are read", items.size() / 2,
                    limits.tensors_max));
  }
  for (size_t i = 0; i < items.size(); i += 2) {
    if (items[i].kind != Kind::kString) {
      return invalid_argument(
          fmt::format("the pickle has {} as the name of a tensor", kind_name(items[i].kind)));
    }
    const std::string_view name = items[i].text;
    if (items[i + 1].kind != Kind::kTensor) {
      return invalid_argument(
          fmt::format("'{}' is {} and not a tensor; save model.state_dict() alone", printable(name),
                      kind_name(items[i + 1].kind)));
    }
    if (!names.insert(name).second)
      return data_loss(fmt::format("tensor '{}' is there twice", printable(name)));
    tensors.push_back(machine.tensor(items[i + 1]));
    tensors.back().info.name = std::string(name);
  }
  Status storages = check_storages(tensors);
  if (!storages.ok()) return storages;
  return tensors;
}

}  // namespace trireme
