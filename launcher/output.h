// stderr and stdout of the command line. stdout carries results alone; messages go to stderr, one
// line each, each in one write, so that lines of several ranks do not mix.
#pragma once

#include <string_view>

#include "kernels/base/status.h"

namespace trireme {

// "trireme: <message>".
void print_message(std::string_view message);
// "trireme: <who>: <message>"; `who` is "" or "rank 2 (stage 1, shard 0)".
void print_error(const Status& status, std::string_view who = {});

// Writes `text` to stdout whole. kDataLoss where it could not (a full disk, a closed pipe).
Status write_result(std::string_view text);

}  // namespace trireme
