// What this binary is, for --version and for bug reports.
#pragma once

#include <string>

namespace trireme {

// "trireme 0.1.0\ncompiler: ...\n..."; may be called before MPI starts.
std::string version_text();

// "0.1.0".
std::string version_number();

}  // namespace trireme
