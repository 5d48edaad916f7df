// The rules of Chrome's trace events that a viewer needs, checked with gtest.
#pragma once

#include "kernels/base/json.h"

namespace trireme::test {

// Every event has a known phase and a time that is not negative; spans of a lane nest; requests'
// beginnings and ends match like brackets; each arrow has both ends;
// whoever has events has a name.
void expect_trace_rules(const Json& trace);

}  // namespace trireme::test
