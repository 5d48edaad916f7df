// CHECK: a promise between our own functions. When it is broken the program ends, with the place
// and the condition on stderr; it never throws and is never compiled out. DCHECK is for hot loops
// and is compiled out of release builds.
#pragma once

#include <sstream>

namespace trireme::internal {

// Collects the message of a failed CHECK and ends the program when it is destroyed.
class CheckFailure {
 public:
  CheckFailure(const char* file, int line, const char* condition);
  CheckFailure(const CheckFailure&) = delete;
  CheckFailure& operator=(const CheckFailure&) = delete;
  [[noreturn]] ~CheckFailure();
  std::ostream& stream() { return stream_; }

 private:
  std::ostringstream stream_;
};

// Gives `CHECK(x) << "why"` the type void on both sides of the conditional operator.
struct Voidify {
  void operator&(std::ostream&) const {}
};

}  // namespace trireme::internal

#define CHECK(condition)                         \
  (condition) ? (void)0                          \
              : ::trireme::internal::Voidify() & \
                    ::trireme::internal::CheckFailure(__FILE__, __LINE__, #condition).stream()

#ifdef NDEBUG
#define DCHECK(condition) CHECK(true || (condition))
#else
#define DCHECK(condition) CHECK(condition)
#endif
