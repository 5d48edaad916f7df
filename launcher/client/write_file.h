// A file written whole. Any thread.
#pragma once

#include <string>
#include <string_view>

#include "kernels/base/status.h"

namespace trireme {

// kDataLoss where it cannot be written, with the path and why.
Status write_file(const std::string& path, std::string_view text);

}  // namespace trireme
