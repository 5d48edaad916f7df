// Reads the pickle inside a torch.save archive without running it.
//
// A pickle is a program: `GLOBAL os.system; REDUCE` calls it while it loads. This reader knows the
// instructions that torch.save writes for a dict of tensors and carries them out over values of its
// own: numbers, strings, tuples, lists, dicts, tensor descriptions. It has no way to import or call
// anything; a pickle that names another global than these is refused by that name:
//   collections.OrderedDict                          an empty dict
//   torch._utils._rebuild_tensor_v2                  a tensor description
//   torch._utils._rebuild_parameter                  the tensor inside it
//   torch.{Float,Half,BFloat16,Double,...}Storage    an element type
// A pure function of bytes, so that it can be fuzzed; used by rwkv_pth.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/model/weights/tensor_info.h"

namespace trireme {

// A view of a storage: element (i0, i1, ..) is at offset + sum(ik * stride[k]), in elements.
struct PickledTensor {
  TensorInfo info;          // name, type, shape, bytes
  std::string storage_key;  // the archive holds the storage as <archive>/data/<key>
  int64_t storage_elements = 0;
  int64_t offset = 0;
  std::vector<int64_t> stride;  // one per dimension

  // Elements lie one behind the other, last index fastest.
  bool contiguous() const;
};

// The limits of one pickle. A 14-billion-parameter RWKV needs 0.2 MB and 20,000 objects; whatever
// the pickle says, reading it takes memory in proportion to its bytes and no recursion.
struct PickleLimits {
  size_t bytes_max = 4 << 20;
  size_t objects_max = 1'000'000;  // tuples, lists and dicts; and as many memo entries
  size_t tensors_max = 100'000;
};

// The tensors of a pickled dict of tensors, in the order of the dict.
// INVARIANT of what is returned: names are distinct and UTF-8; shape, stride and offset are not
// negative; every element is inside [0, storage_elements); a storage is used with one type and
// length; a tensor has no more elements than its storage.
// Errors say what the pickle wanted; they do not name the file.
Result<std::vector<PickledTensor>> unpickle_tensors(std::span<const std::byte> pickle,
                                                    const PickleLimits& limits = {});

}  // namespace trireme
