#include "launcher/version.h"

#include <string_view>

#include <fmt/format.h>
#include <mpi.h>

#include "kernels/cpu/features.h"
#include "launcher/device_choice.h"

namespace trireme {
namespace {

std::string cuda_version() {
  const Result<CudaLibrary> library = open_cuda_library(cuda_library_folders());
  if (library.ok()) return library->plugin->versions();
  return library.status().code() == StatusCode::kNotFound ? "none" : library.status().message();
}

}  // namespace

std::string version_number() { return TRIREME_VERSION; }

std::string compiler_version() {
#ifdef __clang__
  return fmt::format("clang {}", __clang_version__);
#else
  return fmt::format("gcc {}", __VERSION__);
#endif
}

std::string mpi_version() {
  char library[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(library, &length);
  const std::string_view mpi(library, static_cast<size_t>(length));
  // Open MPI's goes on with who built it: up to the first comma it is the version.
  return std::string(mpi.substr(0, mpi.find(',')));
}

std::string version_text() {
  return fmt::format("trireme {}\ncompiler {}\nisa {} ({} cores)\nmpi {}\ncuda {}\n",
                     version_number(), compiler_version(), isa_name(best_isa()), allowed_cores(),
                     mpi_version(), cuda_version());
}

}  // namespace trireme
