// Nothing in a quantized checkpoint can crash its reader: fixtures with shapes, types, bytes and
// configs changed at random give rows or one sentence. Run under a sanitizer, it sees every read
// beyond a tensor, as each lies in an allocation of exactly its size.
#include <random>

#include <boost/json/array.hpp>
#include <gtest/gtest.h>

#include "runtime/model/weights/quantized_tensors.h"
#include "tests/runtime/model/weights/quantized_fixtures.h"

namespace trireme {
namespace {

using Random = std::mt19937_64;

int64_t below(Random& random, int64_t n) { return static_cast<int64_t>(random() % n); }

void set_type_and_shape(MemoryTensor& tensor, std::string_view dtype, std::vector<int64_t> shape) {
  const SafetensorsDType* type = find_safetensors_dtype(dtype);
  const Result<size_t> bytes = tensor_bytes(shape, type->bits);
  if (!bytes.ok() || *bytes > (1 << 20)) return;
  tensor.info.dtype_name = type->name;
  tensor.info.dtype = type->dtype;
  tensor.info.shape = std::move(shape);
  tensor.info.bytes = *bytes;
  tensor.bytes.resize(*bytes);
  tensor.bytes.shrink_to_fit();
}

void damage_tensor(Random& random, MemoryTensor& tensor) {
  std::vector<int64_t> shape = tensor.info.shape;
  constexpr std::string_view kTypes[] = {"I8",  "I32", "I64",     "F16",    "BF16",
                                         "F32", "U8",  "F8_E4M3", "F8_E8M0"};
  switch (below(random, 6)) {
    case 0:
      if (!shape.empty()) shape[below(random, shape.size())] = below(random, 300);
      break;
    case 1:
      if (!shape.empty()) shape[below(random, shape.size())] += below(random, 3) - 1;
      break;
    case 2:
      if (shape.size() > 1) std::swap(shape[0], shape[1]);
      break;
    case 3:
      if (below(random, 2) == 0 || shape.empty())
        shape.push_back(1 + below(random, 2));
      else
        shape.pop_back();
      break;
    case 4:
      set_type_and_shape(tensor, kTypes[below(random, std::size(kTypes))], shape);
      return;
    default:
      for (int64_t i = 0; i < 4 && !tensor.bytes.empty(); ++i)
        tensor.bytes[below(random, tensor.bytes.size())] = static_cast<std::byte>(random());
      return;
  }
  for (const int64_t d : shape)
    if (d < 0) return;
  set_type_and_shape(tensor, tensor.info.dtype_name, shape);
}

// Another value for one number, string or list somewhere in the config.
void damage_config(Random& random, Json& value) {
  if (value.is_object() && !value.get_object().empty()) {
    auto& object = value.get_object();
    damage_config(random, (object.begin() + below(random, object.size()))->value());
  } else if (value.is_array() && !value.get_array().empty()) {
    damage_config(random, value.get_array()[below(random, value.get_array().size())]);
  } else {
    const Json others[] = {Json(-1),        Json(0),       Json(1),         Json(8),
                           Json(4),         Json(16),      Json(64),        Json(INT64_MAX),
                           Json(INT64_MIN), Json("group"), Json("channel"), Json("block"),
                           Json(true),      Json(1.5),     Json(nullptr)};
    value = others[below(random, std::size(others))];
  }
}

TEST(QuantizedDamage, GivesRowsOrOneSentence) {
  constexpr uint64_t kRounds = 4000;
  const std::vector<QuantizedFixture> fixtures = quantized_fixtures();
  int64_t read = 0;
  int64_t refused = 0;
  for (uint64_t seed = 0; seed < kRounds; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    QuantizedFixture f = fixtures[below(random, fixtures.size())];
    for (int64_t n = below(random, 3); n >= 0; --n) {
      auto at = std::next(f.tensors.begin(), below(random, f.tensors.size()));
      damage_tensor(random, at->second);
    }
    if (below(random, 3) == 0) damage_config(random, f.config);
    if (below(random, 4) == 0) f.rows = below(random, 300);
    if (below(random, 4) == 0) f.cols = below(random, 300);
    const auto method = quantized_tensors(f.config, "config.json");
    if (!method.ok() || *method == nullptr) {
      ++refused;
      continue;
    }
    const MemoryCheckpoint checkpoint(f.tensors);
    (*method)->parts(checkpoint, f.weight());
    if (!(*method)->holds(checkpoint, f.weight())) continue;
    const auto format = (*method)->format(checkpoint, f.weight(), f.rows, f.cols);
    const int64_t first = below(random, f.rows + 1);
    const int64_t count = below(random, f.rows - first + 1);
    const auto floats = (*method)->floats(checkpoint, f.weight(), f.rows, f.cols, first, count);
    if (!format.ok()) {
      EXPECT_FALSE(floats.ok());
      EXPECT_FALSE(format.status().message().empty());
      ++refused;
      continue;
    }
    if (format->quantized()) {
      const auto rows = (*method)->rows(checkpoint, f.weight(), f.rows, f.cols, first, count);
      EXPECT_EQ(rows.ok(), floats.ok());
    }
    ++(floats.ok() ? read : refused);
  }
  EXPECT_GT(read, 100);
  EXPECT_GT(refused, 100);
}

}  // namespace
}  // namespace trireme
