#include "kernels/cuda/emulator/fiber.h"

#include <boost/context/detail/fcontext.hpp>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/base/check.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace trireme::emulator {
namespace {

namespace context = boost::context::detail;

// Red zones make frames several times larger.
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kStackBytes = size_t{256} << 10;
#else
constexpr size_t kStackBytes = size_t{64} << 10;
#endif

}  // namespace

struct Fiber::State {
  std::function<void()> body;
  std::byte* memory = nullptr;  // one page that faults, then the stack
  size_t page = 0;
  context::fcontext_t inside = nullptr;   // where the fiber goes on
  context::fcontext_t outside = nullptr;  // where its owner goes on
#if defined(__SANITIZE_ADDRESS__)
  void* fake_inside = nullptr;
  void* fake_outside = nullptr;
  const void* outside_bottom = nullptr;
  size_t outside_size = 0;
#endif
#if defined(__SANITIZE_THREAD__)
  void* tsan_inside = nullptr;
  void* tsan_outside = nullptr;
#endif

  static void enter(context::transfer_t from) {
    auto* state = static_cast<State*>(from.data);
    state->arrived_inside(from.fctx);
    state->body();
    CHECK(false) << "a fiber's body returned";
  }
  void arrived_inside(context::fcontext_t owner) {
    outside = owner;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_inside, &outside_bottom, &outside_size);
#endif
  }
};

Fiber::Fiber(std::function<void()> body) : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.body = std::move(body);
  s.page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* memory = mmap(nullptr, s.page + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(memory != MAP_FAILED) << "no memory for the stack of a fiber";
  CHECK(mprotect(memory, s.page, PROT_NONE) == 0);
  s.memory = static_cast<std::byte*>(memory);
  s.inside =
      context::make_fcontext(s.memory + s.page + kStackBytes, kStackBytes, &Fiber::State::enter);
#if defined(__SANITIZE_THREAD__)
  s.tsan_inside = __tsan_create_fiber(0);
#endif
}

Fiber::~Fiber() {
#if defined(__SANITIZE_THREAD__)
  __tsan_destroy_fiber(state_->tsan_inside);
#endif
  munmap(state_->memory, state_->page + kStackBytes);
}

void Fiber::resume() {
  State& s = *state_;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&s.fake_outside, s.memory + s.page, kStackBytes);
#endif
#if defined(__SANITIZE_THREAD__)
  s.tsan_outside = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(s.tsan_inside, 0);
#endif
  const context::transfer_t back = context::jump_fcontext(s.inside, &s);
  s.inside = back.fctx;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(s.fake_outside, nullptr, nullptr);
#endif
}

void Fiber::yield() {
  State& s = *state_;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&s.fake_inside, s.outside_bottom, s.outside_size);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(s.tsan_outside, 0);
#endif
  const context::transfer_t again = context::jump_fcontext(s.outside, nullptr);
  s.arrived_inside(again.fctx);
}

}  // namespace trireme::emulator
