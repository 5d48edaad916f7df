// Runs a program to its end and keeps what it wrote.
#pragma once

#include <string>
#include <vector>

namespace trireme::test {

struct Ended {
  int code = -1;  // exit code; 128 + signal where a signal ended it
  std::string out, error;

  // Lines of stderr that begin with "trireme:".
  std::vector<std::string> messages() const;
};

// argv[0] is a path. May be run as root under mpirun. stdin is empty.
Ended run_program(const std::vector<std::string>& argv);

// The binary under test, which starts its own ranks.
Ended run_trireme(std::vector<std::string> args);

}  // namespace trireme::test
