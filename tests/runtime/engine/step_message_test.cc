// What ranks tell each other about a step, as bytes: a random message is read as it was written; a
// message that ends early, or goes on, is refused; one with a bit turned over is refused or is
// another message, and never taken for the one that was sent; any bytes that are accepted are the
// very bytes that writing gives. TRIREME_SEED=<seed> replays what failed.
#include "runtime/engine/step_message.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "runtime/engine/step_result.h"
#include "tests/runtime/schedule/random_work.h"

namespace trireme::test {
namespace {

using Bytes = std::vector<std::byte>;

// Small numbers and the ends of the range; of reals never zero, which equals itself with another
// sign.
template <class T>
T number(Random& random) {
  using Limits = std::numeric_limits<T>;
  if (random.one_in(8)) return Limits::max();
  if (random.one_in(8)) return Limits::lowest();
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(random.up_to(1000));
  } else {
    return static_cast<T>(random.up_to(1000)) / 8 - static_cast<T>(50.0625);
  }
}

std::string text(Random& random) {
  std::string text(random.up_to(random.one_in(4) ? 40 : 3), ' ');
  for (char& c : text) c = static_cast<char>(random.up_to(255));
  return text;
}

template <class Make>
auto some(Random& random, uint32_t max, const Make& make) {
  std::vector<decltype(make())> all;
  for (uint32_t n = random.up_to(max); n > 0; --n) all.push_back(make());
  return all;
}

std::vector<int32_t> ids(Random& random, uint32_t max) {
  return some(random, max, [&] { return number<int32_t>(random); });
}

SamplingParams random_params(Random& random) {
  SamplingParams p;
  p.temperature = number<float>(random);
  p.top_p = number<float>(random);
  p.min_p = number<float>(random);
  p.top_k = number<int32_t>(random);
  p.repetition_penalty = number<float>(random);
  p.presence_penalty = number<float>(random);
  p.frequency_penalty = number<float>(random);
  p.logit_bias = some(random, 3, [&] {
    const auto token = number<int32_t>(random);
    return std::pair(token, number<float>(random));
  });
  p.allowed_token_ids = ids(random, 4);
  p.bad_words = some(random, 3, [&] { return ids(random, 3); });
  p.stop_token_ids = ids(random, 3);
  p.stop = some(random, 3, [&] { return text(random); });
  p.include_stop_str_in_output = random.one_in(2);
  p.ignore_eos = random.one_in(2);
  p.min_tokens = number<uint32_t>(random);
  p.max_tokens = number<uint32_t>(random);
  p.seed = number<uint64_t>(random);
  p.logprobs = number<int32_t>(random);
  return p;
}

SequenceOp random_op(Random& random) {
  SequenceOp op;
  op.kind =
      static_cast<SequenceOp::Kind>(random.up_to(static_cast<uint32_t>(SequenceOp::Kind::kReset)));
  op.seq = number<uint64_t>(random);
  op.token = number<int32_t>(random);
  op.child = number<uint64_t>(random);
  op.choice = number<uint32_t>(random);
  op.flag = random.one_in(2);
  if (op.kind != SequenceOp::Kind::kAdmit) return op;
  op.admission.prompt = ids(random, 20);
  op.admission.params = random_params(random);
  op.admission.choices = number<uint32_t>(random);
  op.admission.prompt_logprobs = number<int32_t>(random);
  op.admission.constraint.kind = static_cast<ConstraintSpec::Kind>(
      random.up_to(static_cast<uint32_t>(ConstraintSpec::Kind::kGrammar)));
  op.admission.constraint.text = text(random);
  op.admission.cache_salt = text(random);
  return op;
}

StepMessage random_message(Random& random) {
  StepMessage m;
  m.kind =
      static_cast<StepMessage::Kind>(random.up_to(static_cast<uint32_t>(StepMessage::Kind::kStop)));
  m.step = number<uint64_t>(random);
  m.digest = number<uint64_t>(random);
  m.idle_us = number<uint64_t>(random);
  m.ops = some(random, 4, [&] { return random_op(random); });
  m.runs = some(random, 4, [&] {
    StepPlan::Run run;
    run.seq = number<uint64_t>(random);
    run.first = number<uint32_t>(random);
    run.count = number<uint32_t>(random);
    run.wants_logits = random.one_in(2);
    return run;
  });
  return m;
}

SampledToken random_token(Random& random) {
  SampledToken t;
  t.token = number<int32_t>(random);
  t.logprob = number<float>(random);
  t.top_logprobs = some(random, 3, [&] {
    const auto token = number<int32_t>(random);
    return std::pair(token, number<float>(random));
  });
  return t;
}

StepResult random_result(Random& random) {
  StepResult r;
  r.step = number<uint64_t>(random);
  r.busy_us = number<uint64_t>(random);
  r.idle_us = number<uint64_t>(random);
  const auto token = [&] { return random_token(random); };
  r.sampled = some(random, 4, [&] {
    StepResult::Sampled s;
    s.seq = number<uint64_t>(random);
    s.tokens = some(random, 3, token);
    if (s.tokens.empty())
      s.failure = Status(static_cast<StatusCode>(1 + random.up_to(7)), text(random));
    return s;
  });
  r.scores = some(random, 2, [&] {
    StepResult::PromptScores s;
    s.seq = number<uint64_t>(random);
    s.tokens = some(random, 5, token);
    return s;
  });
  return r;
}

// Holds bytes that were damaged to what the head of this file says; counts those refused.
template <class T>
void expect_not_taken_for(const T& sent, const Bytes& damaged,
                          Result<T> (*read)(std::span<const std::byte>), Bytes (*write)(const T&),
                          uint64_t& refused) {
  // A copy of its own size, so that AddressSanitizer sees a read beyond it.
  const Bytes exact(damaged.begin(), damaged.end());
  const Result<T> got = read(exact);
  if (!got.ok()) {
    ++refused;
    ASSERT_EQ(got.status().code(), StatusCode::kDataLoss) << got.status().message();
    return;
  }
  ASSERT_FALSE(*got == sent);
  ASSERT_EQ(write(*got), exact) << "one message has two forms";
}

template <class T>
void try_out(Random& random, const T& sent, Result<T> (*read)(std::span<const std::byte>),
             Bytes (*write)(const T&), uint64_t& refused) {
  const Bytes bytes = write(sent);
  const Result<T> got = read(bytes);
  ASSERT_TRUE(got.ok()) << got.status().message();
  ASSERT_EQ(*got, sent);
  const auto size = static_cast<uint32_t>(bytes.size());
  const uint32_t cuts = std::min(size, 200u);
  for (uint32_t i = 0; i < cuts; ++i) {
    const uint32_t length = size <= 200 ? i : random.up_to(size - 1);
    const Bytes shorter(bytes.begin(), bytes.begin() + length);
    ASSERT_EQ(read(shorter).status().code(), StatusCode::kDataLoss) << "cut at " << length;
  }
  Bytes longer = bytes;
  longer.push_back(std::byte{0});
  ASSERT_EQ(read(longer).status().code(), StatusCode::kDataLoss);
  for (int i = 0; i < 200; ++i) {
    Bytes flipped = bytes;
    for (uint32_t bits = random.one_in(2) ? 1 : random.between(2, 5); bits > 0; --bits) {
      flipped[random.up_to(size - 1)] ^= std::byte{1} << random.up_to(7);
    }
    if (flipped == bytes) continue;  // the same bit twice
    expect_not_taken_for(sent, flipped, read, write, refused);
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(StepMessage, IsReadAsItWasWrittenOrNotAtAll) {
  uint64_t refused = 0, admissions = 0;
  for (const uint64_t seed : seeds(1500)) {
    SCOPED_TRACE(fmt::format("replay with TRIREME_SEED={}", seed));
    Random random(seed);
    const StepMessage sent = random_message(random);
    for (const SequenceOp& op : sent.ops) admissions += op.kind == SequenceOp::Kind::kAdmit;
    try_out(random, sent, read_step_message, write_step_message, refused);
    if (HasFatalFailure()) return;
  }
  if (replays_one_seed()) return;
  EXPECT_GT(admissions, 300u);
  EXPECT_GT(refused, 10000u);
}

TEST(StepResult, IsReadAsItWasWrittenOrNotAtAll) {
  uint64_t refused = 0;
  for (const uint64_t seed : seeds(1500)) {
    SCOPED_TRACE(fmt::format("replay with TRIREME_SEED={}", seed));
    Random random(seed);
    try_out(random, random_result(random), read_step_result, write_step_result, refused);
    if (HasFatalFailure()) return;
  }
  if (replays_one_seed()) return;
  EXPECT_GT(refused, 10000u);
}

// Bytes before the count of ops: kind, step, digest, idle_us.
constexpr size_t kHead = 1 + 3 * 8;

// No list is made longer than the bytes that are left could fill, whatever its count says.
TEST(StepMessage, ACountThatTheBytesCannotHoldIsRefused) {
  StepMessage message;
  message.ops.emplace_back();
  Bytes bytes = write_step_message(message);
  const size_t count_of_ops = kHead;
  for (size_t i = 0; i < 4; ++i) bytes[count_of_ops + i] = std::byte{0xff};
  const Result<StepMessage> got = read_step_message(bytes);
  EXPECT_EQ(got.status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(got.status().message(),
            "a step message ends before its time, or says neither yes nor no");
}

TEST(StepMessage, AKindThatNobodyKnowsIsRefused) {
  StepMessage message;
  message.ops.emplace_back();
  for (const size_t where : {size_t{0}, size_t{kHead + 4}}) {  // of the message, of its op
    Bytes bytes = write_step_message(message);
    bytes[where] = std::byte{0x7f};
    const Result<StepMessage> got = read_step_message(bytes);
    EXPECT_EQ(got.status().code(), StatusCode::kDataLoss);
    EXPECT_EQ(got.status().message(), "a step message has a kind that this version does not know");
  }
}

}  // namespace
}  // namespace trireme::test
