#include "runtime/text/regex.h"

#include <ctime>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include "runtime/text/onig_syntax.h"
#include "runtime/text/utf8.h"

namespace trireme {
namespace {

// Two limits. PCRE2 counts the steps of one search, which stops runaway backtracking. But a pattern
// may take n steps from each of n places (\p{N}(?=(\p{N}{3})*x) on digits), which PCRE2 does not
// see: so the CPU time of a Scratch is limited too, generously, and looked at every few attempts.
constexpr uint32_t kStepsMax = 20'000'000;
constexpr uint32_t kHeapKibMax = 256 * 1024;
constexpr int64_t kCpuNsPerByte = 5'000;
constexpr uint32_t kAttemptsPerLook = 64;

int64_t thread_cpu_ns() {
  timespec now = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

struct Regex::Scratch::Memory {
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_match_data* match = pcre2_match_data_create(1, nullptr);
  uint32_t attempts = 0;
  int64_t cpu_ns_begin = 0;  // 0: the clock has not been looked at
  int64_t cpu_ns_allowed = 0;

  // PCRE2 calls this each time it starts to match at a place.
  static int on_attempt(pcre2_callout_block*, void* self) {
    Memory& memory = *static_cast<Memory*>(self);
    if (++memory.attempts % kAttemptsPerLook != 0) return 0;
    const int64_t now = thread_cpu_ns();
    if (memory.cpu_ns_begin == 0) memory.cpu_ns_begin = now;
    return now - memory.cpu_ns_begin > memory.cpu_ns_allowed ? PCRE2_ERROR_CALLOUT : 0;
  }
};

Regex::Scratch::Scratch(int64_t cpu_ms_max) : memory_(std::make_unique<Memory>()) {
  memory_->cpu_ns_allowed = cpu_ms_max * 1'000'000;
  CHECK(memory_->context != nullptr && memory_->match != nullptr) << "out of memory";
  pcre2_set_match_limit(memory_->context, kStepsMax);
  pcre2_set_heap_limit(memory_->context, kHeapKibMax);
  pcre2_set_callout(memory_->context, &Memory::on_attempt, memory_.get());
}

Regex::Scratch::~Scratch() {
  pcre2_match_data_free(memory_->match);
  pcre2_match_context_free(memory_->context);
}

struct Regex::Code {
  pcre2_code* code = nullptr;
  ~Code() { pcre2_code_free(code); }
};

Regex::Regex(std::unique_ptr<Code> code) : code_(std::move(code)) {}
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

Result<Regex> Regex::compile(std::string_view onig_pattern) {
  Result<std::string> pattern = pcre2_from_onig(onig_pattern);
  if (!pattern.ok()) return pattern.status();
  const std::string with_callout = fmt::format("(?C1)(?:{})", *pattern);
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  CHECK(context != nullptr) << "out of memory";
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  int error = 0;
  size_t offset = 0;
  auto code = std::make_unique<Code>();
  // MULTILINE: ^ and $ stand at every line, as they do in Oniguruma.
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(with_callout.data()), with_callout.size(),
                             PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NO_AUTO_CAPTURE,
                             &error, &offset, context);
  pcre2_compile_context_free(context);
  if (code->code == nullptr) {
    PCRE2_UCHAR message[256] = {};
    pcre2_get_error_message(error, message, sizeof message);
    return invalid_argument(fmt::format("the pattern '{}' does not compile: {}", onig_pattern,
                                        reinterpret_cast<const char*>(message)));
  }
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);  // where there is no JIT: interpreted
  return Regex(std::move(code));
}

Status Regex::find_all(std::string_view text, Scratch& scratch, std::vector<Match>& matches) const {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const size_t* found = pcre2_get_ovector_pointer(scratch.memory_->match);
  scratch.memory_->cpu_ns_allowed += static_cast<int64_t>(text.size()) * kCpuNsPerByte;
  size_t from = 0;
  size_t last_end = SIZE_MAX;
  while (from <= text.size()) {
    int rc = pcre2_match(code_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK,
                         scratch.memory_->match, scratch.memory_->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {  // the interpreter keeps its stack on the heap
      rc = pcre2_match(code_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                       scratch.memory_->match, scratch.memory_->context);
    }
    if (rc == PCRE2_ERROR_NOMATCH) break;
    if (rc < 0) {
      return invalid_argument(fmt::format(
          "the tokenizer's pattern needs too many steps on this text, at byte {}", from));
    }
    const Match match = {found[0], found[1]};
    if (match.begin == match.end && match.end == last_end) {
      from = match.end < text.size() ? match.end + code_point_at(text, match.end).bytes
                                     : text.size() + 1;
      continue;
    }
    matches.push_back(match);
    from = last_end = match.end;
  }
  return {};
}

}  // namespace trireme
