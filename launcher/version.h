// What this binary is, for --version and for bug reports.
#pragma once

#include <string>

namespace trireme {

// "trireme 0.1.0\ncompiler ...\n..."; may be called before MPI starts. Opens the CUDA library where
// there is one, but no GPU.
std::string version_text();

// "0.1.0".
std::string version_number();
// "gcc 12.2.0".
std::string compiler_version();
// "Open MPI v4.1.4".
std::string mpi_version();

}  // namespace trireme
