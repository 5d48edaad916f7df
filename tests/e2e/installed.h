// The program as it is installed: in a folder of its own, beside a CUDA library of the test's
// choice.
#pragma once

#include <string>
#include <vector>

#include "tests/e2e/program.h"
#include "tests/support/edited_model.h"

namespace trireme::test {

class Installed {
 public:
  // `folder` has the libtrireme_cuda.so.
  explicit Installed(const std::string& folder);

  std::string program() const { return folder_.path() + "/trireme"; }
  Ended run(std::vector<std::string> args) const;

 private:
  TempFolder folder_;
};

}  // namespace trireme::test
