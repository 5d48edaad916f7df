// Where a client program writes: passed in, so that tests read it.
#pragma once

#include <functional>
#include <string_view>

#include "kernels/base/status.h"

namespace trireme {

struct ClientConsole {
  std::function<Status(std::string_view)> result;  // to stdout: results alone
  std::function<void(std::string_view)> message;   // one line to stderr
};

// What a client program returns where it could do its work; a Status says why it could not.
inline constexpr int kClientOk = 0;
inline constexpr int kClientFailed = 1;  // no request succeeded, or an answer differs
inline constexpr int kClientMissed = 3;  // an --assert does not hold

}  // namespace trireme
