// Reads one call, {"name": ..., "arguments": {...}}, byte by byte, so that its arguments can go out
// while they are written. Memory: names and what has not been taken. One thread at a time.
#pragma once

#include <optional>
#include <string>
#include <utility>

namespace trireme {

class CallScanner {
 public:
  enum class State : uint8_t { kMore, kDone, kBroken };

  CallScanner() = default;
  // What follows is the arguments alone, of a call of `name`.
  explicit CallScanner(std::string name)
      : name_(std::move(name)), part_(Part::kValue), member_(Member::kArguments), bare_(true) {}

  // The next byte. After kDone or kBroken (which `c` brought about) no more may come.
  State push(char c);

  const std::optional<std::string>& name() const { return name_; }
  bool has_arguments() const { return has_arguments_; }
  bool bare() const { return bare_; }  // made for the arguments alone
  // The arguments' text since the last time: of an object as it was written; a string's content.
  std::string take_arguments() { return std::exchange(arguments_, {}); }

 private:
  enum class Part : uint8_t { kOpen, kKey, kInKey, kColon, kValue, kInValue, kNext };
  enum class Member : uint8_t { kOther, kName, kArguments };
  enum class Form : uint8_t { kNested, kString, kWord };

  State begin_value(char c);
  State in_value(char c);
  State end_value();
  void keep(char c);
  bool in_string(char c);  // true: `c` closes it

  std::optional<std::string> name_;
  std::string arguments_;
  bool has_arguments_ = false;
  Part part_ = Part::kOpen;
  Member member_ = Member::kOther;
  Form form_ = Form::kWord;
  bool bare_ = false;
  std::string token_;  // a key, or a value that is not passed on as it comes
  std::string open_;   // the brackets of the value
  bool string_ = false, escaped_ = false;
};

}  // namespace trireme
