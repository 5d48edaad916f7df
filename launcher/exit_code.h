// From a Status to what the shell sees. The numbers are the command line's contract:
//   0 ok   1 run-time error   2 usage or configuration   3 does not fit   5 model file invalid
//   6 a rank or peer lost   7 time-out   130 / 143 ended by SIGINT / SIGTERM
#pragma once

#include "kernels/base/status.h"

namespace trireme {

inline constexpr int kExitOk = 0;
inline constexpr int kExitRuntime = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitDoesNotFit = 3;
inline constexpr int kExitModelInvalid = 5;
inline constexpr int kExitRankLost = 6;
inline constexpr int kExitTimeOut = 7;
inline constexpr int kExitSignal = 128;  // + the signal's number

// What was being done: the same code means different things to the user while the command line is
// read and while a checkpoint is.
enum class Doing : uint8_t {
  kConfiguring,   // command line, YAML, mesh against world and model
  kLoadingModel,  // config.json, tokenizer, weights
  kRunning,       // prompts to tokens
};

int exit_code(const Status& status, Doing doing);

}  // namespace trireme
