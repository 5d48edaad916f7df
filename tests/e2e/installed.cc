#include "tests/e2e/installed.h"

#include <filesystem>

namespace trireme::test {

Installed::Installed(const std::string& folder) {
  namespace fs = std::filesystem;
  // Not a symbolic link: the library stands beside the file that runs.
  std::error_code other_file_system;
  fs::create_hard_link(TRIREME_PROGRAM, program(), other_file_system);
  if (other_file_system) fs::copy(TRIREME_PROGRAM, program());
  fs::copy(folder + "/libtrireme_cuda.so", folder_.path());
}

Ended Installed::run(std::vector<std::string> args) const {
  args.insert(args.begin(), program());
  return run_program(args);
}

}  // namespace trireme::test
