// Which memory two views share: what checked ops ask before an op writes. Pure functions.
#pragma once

#include <initializer_list>

#include "kernels/base/tensor.h"

namespace trireme {

// Whether the two are the same elements.
bool same(const ConstTensorView& x, const ConstTensorView& y);

// Whether no element of x is an element of y. Column ranges of one buffer are disjoint although
// their address ranges interleave.
bool disjoint(const ConstTensorView& x, const ConstTensorView& y);

// Ends the program where `out`, of op `op`, overlaps one of `inputs`.
void check_disjoint(const char* op, const TensorView& out,
                    std::initializer_list<ConstTensorView> inputs);

}  // namespace trireme
