// Quantities as people write them, with their units: "16GiB", "30s". A bare number is refused: a
// reader of the file should not have to know which unit was meant.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/base/status.h"

namespace trireme {

// Bytes: a decimal number and B, KB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB (powers of
// 1024), without a space; "1.5GiB" is fine, "0.3B" is not whole and refused.
Result<uint64_t> parse_size(std::string_view text);

// Milliseconds: a decimal number and ms, s, m or h, without a space; whole milliseconds.
Result<uint64_t> parse_duration_ms(std::string_view text);

// "1.5 GiB", "512 MiB", "100 B": the largest binary unit, at most two decimals.
std::string format_size(uint64_t bytes);

}  // namespace trireme
