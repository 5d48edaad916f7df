// A fiber: a function with a stack of its own that runs until it gives the thread back, and goes on
// there when it is resumed. Sanitizers are told of every switch.
//
// A fiber belongs to the thread that made it.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace trireme::emulator {

class Fiber {
 public:
  // `body` runs for as long as the fiber lives: it begins at the first resume() and must give back
  // through yield(), again and again; it never returns. A fiber that is destroyed is simply left
  // where it stands, so `body` owns nothing across a yield().
  explicit Fiber(std::function<void()> body);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void resume();  // REQUIRES: called outside of it, on its thread
  void yield();   // REQUIRES: called inside of it

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace trireme::emulator
