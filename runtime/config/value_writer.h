// One C++ value as YAML that value_reader.h and the schema read back as the same.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/base/dtype.h"

namespace trireme {

std::string write_number(float value);             // the shortest that gives the same float
std::string write_string(std::string_view value);  // in quotes; also a string of JSON
std::string write_size(uint64_t bytes);            // the largest binary unit that divides it
std::string write_duration_ms(uint64_t ms);        // the largest unit that divides it
std::string write_dtype(const std::optional<DType>& dtype);
std::string write_strings(const std::vector<std::string>& values);
std::string write_token_ids(const std::vector<int32_t>& ids);
std::string write_logit_bias(const std::vector<std::pair<int32_t, float>>& bias);

}  // namespace trireme
