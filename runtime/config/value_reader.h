// One YAML value as one C++ value, strictly. Each error says where, what was expected and what is
// there. What the command line gave (ConfigNode::Style::kArgument) is of the type that is asked.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/config/config_node.h"

namespace trireme {

// Decimal, without a leading zero (YAML 1.1 reads 010 as 8, YAML 1.2 as 10).
Result<int64_t> read_integer(const ConfigNode& node, int64_t min, int64_t max);
Result<uint64_t> read_unsigned(const ConfigNode& node);

// A finite decimal number.
Result<double> read_number(const ConfigNode& node);

// true or false; not yes, no, on, off.
Result<bool> read_boolean(const ConfigNode& node);

// In quotes, or plain where no YAML reader takes it for a number, a boolean or null.
Result<std::string> read_string(const ConfigNode& node);

// A size with its unit (units.h), in bytes.
Result<uint64_t> read_size(const ConfigNode& node);

// A duration with its unit (units.h), in milliseconds.
Result<uint64_t> read_duration_ms(const ConfigNode& node);

// A list of strings, or one.
Result<std::vector<std::string>> read_strings(const ConfigNode& node);

// A list of numbers from 0 up.
Result<std::vector<int32_t>> read_token_ids(const ConfigNode& node);

// A map from token id, which may stand in quotes as in JSON, to a number.
Result<std::vector<std::pair<int32_t, float>>> read_logit_bias(const ConfigNode& node);

}  // namespace trireme
