#include "launcher/exit_code.h"

#include <csignal>

namespace trireme {
namespace {

// What means the same whatever was being done; -1: it depends.
int exit_code_of(StatusCode code) {
  switch (code) {
    case StatusCode::kOk:
      return kExitOk;
    case StatusCode::kResourceExhausted:
      return kExitDoesNotFit;
    case StatusCode::kUnavailable:
      return kExitRankLost;
    case StatusCode::kDeadlineExceeded:
      return kExitTimeOut;
    case StatusCode::kCancelled:
      return kExitSignal + SIGINT;
    case StatusCode::kInvalidArgument:
    case StatusCode::kNotFound:
    case StatusCode::kDataLoss:
    case StatusCode::kUnimplemented:
      return -1;
  }
  return kExitRuntime;
}

}  // namespace

int exit_code(const Status& status, Doing doing) {
  if (const int code = exit_code_of(status.code()); code >= 0) return code;
  switch (doing) {
    case Doing::kConfiguring:
      return kExitUsage;
    case Doing::kLoadingModel:
      return kExitModelInvalid;
    case Doing::kRunning:
      // A prompt that is no UTF-8, a token id out of range: what the user gave.
      return status.code() == StatusCode::kInvalidArgument ? kExitUsage : kExitRuntime;
  }
  return kExitRuntime;
}

}  // namespace trireme
