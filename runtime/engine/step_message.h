// What the leader of a worker tells its other ranks about one step: what happened to sequences
// since the step before, in order, and which rows to compute now. Every rank applies it to its own
// sequences and pools and so arrives at the same state; block ids never travel.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/sample/sampling_params.h"
#include "runtime/sample/token_constraint.h"
#include "runtime/schedule/planner.h"

namespace trireme {

// A request as it enters the ranks' tables.
struct SequenceAdmission {
  std::vector<int32_t> prompt;
  SamplingParams params;
  uint32_t choices = 1;
  int32_t prompt_logprobs = -1;
  ConstraintSpec constraint;
  std::string cache_salt;
  bool operator==(const SequenceAdmission&) const = default;
};

// One change of one sequence.
struct SequenceOp {
  enum class Kind : uint8_t {
    kAdmit,    // `seq` is new; it waits
    kAccept,   // `token` is the next token of `seq`
    kFork,     // `child` becomes choice `choice` of the computed prompt of `seq`
    kDrop,     // `seq` has ended; `flag`: its turn is complete, so what it computed may be kept
    kPreempt,  // `seq` gives up its blocks; `flag`: their bytes are kept in host memory
    kReset,    // cached prefixes are forgotten; no sequence
  };
  Kind kind = Kind::kReset;
  SeqId seq = 0;
  int32_t token = 0;
  SeqId child = 0;
  uint32_t choice = 0;
  bool flag = false;
  SequenceAdmission admission;  // kAdmit
  bool operator==(const SequenceOp&) const = default;
};

struct StepMessage {
  enum class Kind : uint8_t {
    kStep,   // apply, compute
    kProbe,  // apply, then all ranks meet: shows that all are alive and agree
    kTrace,  // each rank tells the leader what it did: rank_trace.h
    kStop,   // the worker ends
  };
  Kind kind = Kind::kStep;
  uint64_t step = 0;     // counts messages of kind kStep
  uint64_t digest = 0;   // of the leader's tables after `ops` and the blocks of `runs`
  uint64_t idle_us = 0;  // before this step the leader had nothing to run for so long
  std::vector<SequenceOp> ops;
  std::vector<StepPlan::Run> runs;
  bool operator==(const StepMessage&) const = default;
};

std::vector<std::byte> write_step_message(const StepMessage& message);
// kDataLoss where the bytes are no step message.
Result<StepMessage> read_step_message(std::span<const std::byte> bytes);

}  // namespace trireme
