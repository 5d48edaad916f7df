#include "launcher/version.h"

#include <string_view>

#include <fmt/format.h>
#include <mpi.h>

#include "kernels/cpu/features.h"

namespace trireme {

std::string version_number() { return TRIREME_VERSION; }

std::string version_text() {
  char library[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(library, &length);
  const std::string_view mpi(library, static_cast<size_t>(length));
  // Open MPI's goes on with who built it: up to the first comma it is the version.
  return fmt::format("trireme {}\ncompiler {}\nisa {} ({} cores)\nmpi {}\n", TRIREME_VERSION,
#ifdef __clang__
                     fmt::format("clang {}", __clang_version__),
#else
                     fmt::format("gcc {}", __VERSION__),
#endif
                     isa_name(best_isa()), allowed_cores(), mpi.substr(0, mpi.find(',')));
}

}  // namespace trireme
