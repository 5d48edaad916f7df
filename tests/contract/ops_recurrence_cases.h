// The ops with a state, seen alike: inputs for some rows, the op, and its formula in f64.
//
// A case has one shape and one kind of inputs. Tests draw() inputs for the rows of a call, run()
// the op over ragged runs, and walk() the same runs row by row in f64.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/contract/ops_support.h"

namespace trireme::contract {

using Values = std::vector<double>;

class RecurrenceCase {
 public:
  virtual ~RecurrenceCase() = default;
  virtual std::string name() const = 0;
  virtual int64_t out_cols() const = 0;
  virtual int64_t state_floats() const = 0;
  virtual Values empty_state() const { return Values(static_cast<size_t>(state_floats()), 0.0); }

  // How far results may be from the formula's, relative where they exceed 1.
  virtual double tolerance() const = 0;

  // Inputs for the rows of the next call, on the device. `pad`: whether columns are inserted
  // between rows so that rows do not begin at multiples of 16 bytes.
  virtual void draw(Device& device, Random& random, int32_t rows, bool pad) = 0;
  // With the inputs from row `first` on.
  virtual void run(Ops& ops, int32_t first, const Ragged& rows, const StateRows& states,
                   TensorView out) const = 0;
  // Rows [first, end) of the inputs, a run of one sequence: changes `state`, appends to `out`.
  virtual void walk(int32_t first, int32_t end, Values& state, Values& out) const = 0;
};

// What inputs are like, beside their shape.
enum class Inputs : uint8_t {
  kPlain,     // any
  kLasting,   // decays near 1: old rows count as much as new ones
  kFleeting,  // decays as strong as they get
};

std::unique_ptr<RecurrenceCase> shift_mix_case(int64_t cols, int64_t mixes);
std::unique_ptr<RecurrenceCase> wkv4_case(int64_t channels, float spread, Inputs inputs);
std::unique_ptr<RecurrenceCase> wkv7_case(int32_t heads, int32_t dim, Inputs inputs);
std::unique_ptr<RecurrenceCase> retention_case(int32_t heads, int32_t dim, Inputs inputs);

double sigmoid(double x);

}  // namespace trireme::contract
