// Status and Result<T>: how a function says that something went wrong although the program is
// correct.
//
// A peer that is gone, a file that is damaged, a budget that is spent: Status. A broken promise
// between our own functions is not a Status; it is a CHECK (check.h). Exceptions do not cross a
// folder's door.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "kernels/base/check.h"

namespace trireme {

enum class StatusCode : uint8_t {
  kOk,
  kInvalidArgument,    // the user's input is wrong: YAML, flag, prompt
  kNotFound,           // a file, tensor or name that should be there is not
  kResourceExhausted,  // memory, blocks, a queue, a context length
  kUnavailable,        // a peer or device is not there
  kDeadlineExceeded,
  kCancelled,
  kDataLoss,       // a file or message is damaged
  kUnimplemented,  // well formed, and something that this project does not support
};

// "INVALID_ARGUMENT" and so on, for logs.
std::string_view status_code_name(StatusCode code);

class [[nodiscard]] Status {
 public:
  Status() = default;
  // REQUIRES: code != kOk. `message` is one sentence: where, what, how to mend it.
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {
    CHECK(code != StatusCode::kOk);
  }
  static Status ok_status() { return {}; }
  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

  // The same status with "<where>: " before its message; an ok status stays as it is.
  Status at(std::string_view where) const;

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

inline Status invalid_argument(std::string message) {
  return {StatusCode::kInvalidArgument, std::move(message)};
}
inline Status not_found(std::string message) { return {StatusCode::kNotFound, std::move(message)}; }
inline Status resource_exhausted(std::string message) {
  return {StatusCode::kResourceExhausted, std::move(message)};
}
inline Status unavailable(std::string message) {
  return {StatusCode::kUnavailable, std::move(message)};
}
inline Status data_loss(std::string message) { return {StatusCode::kDataLoss, std::move(message)}; }
inline Status unimplemented(std::string message) {
  return {StatusCode::kUnimplemented, std::move(message)};
}

// A T, or the Status that says why there is none.
// REQUIRES of operator*, operator->, take(): ok().
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}                                 // NOLINT
  Result(Status status) : status_(std::move(status)) { CHECK(!status_.ok()); }  // NOLINT
  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& operator*() { return checked(); }
  const T& operator*() const { return const_cast<Result*>(this)->checked(); }
  T* operator->() { return &checked(); }
  const T* operator->() const { return &const_cast<Result*>(this)->checked(); }
  T take() { return std::move(checked()); }

 private:
  T& checked() {
    CHECK(value_.has_value()) << status_.message();
    return *value_;
  }
  Status status_;
  std::optional<T> value_;
};

}  // namespace trireme
