// Any bytes as JSON: refused with a place and a reason, or a value that its own text gives back,
// the one that another reader sees.
//
//   build/fuzz/tests/kernels/base/json_fuzz NEW_INPUTS seeds/json
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "kernels/base/check.h"
#include "kernels/base/json.h"

namespace {

bool has_real(const trireme::Json& value) {
  if (value.is_double()) return true;
  if (value.is_array()) {
    for (const trireme::Json& item : value.get_array()) {
      if (has_real(item)) return true;
    }
  }
  if (value.is_object()) {
    for (const auto& [key, item] : value.get_object()) {
      if (has_real(item)) return true;
    }
  }
  return false;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace trireme;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const JsonLimits limits{16, 1 << 16};
  const Result<Json> value = parse_json(text, limits);
  if (!value.ok()) {
    CHECK(value.status().code() == StatusCode::kInvalidArgument &&
          !value.status().message().empty())
        << value.status().message();
    return 0;
  }
  boost::system::error_code error;
  const Json other = boost::json::parse(text, error);
  CHECK(!error) << "what is no JSON was read: " << error.message();
  if (!has_real(*value)) CHECK(other == *value) << "another reader sees something else";
  const std::string written = boost::json::serialize(*value);
  const Result<Json> again = parse_json(written, limits);
  CHECK(again.ok()) << again.status().message();
  CHECK(*again == *value);
  return 0;
}
