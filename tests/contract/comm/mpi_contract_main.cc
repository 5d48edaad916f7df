// The communicator's contract, kept by ranks that are processes. Started by mpirun; every rank runs
// every clause in one world. The argument says what the collectives stand on:
//
//   mpirun -n 3 mpi_contract shared | messages
//
// Exit code 0 when every rank saw every promise kept; else the job is aborted with 1.
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

#include "comm/mpi/mpi_world.h"
#include "tests/contract/comm/communicator_contract.h"

namespace {

bool maps_a_shared_window() {
  std::stringstream maps;
  maps << std::ifstream("/proc/self/maps").rdbuf();
  return maps.str().find("memfd:trireme-window") != std::string::npos;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace trireme;
  const std::string_view way = argc == 2 ? argv[1] : "";
  if (way != "shared" && way != "messages") {
    std::fprintf(stderr, "usage: mpi_contract shared | messages\n");
    return 2;
  }
  MpiOptions options;
  options.shared_memory = way == "shared";
  auto world = MpiWorld::init(options);
  if (!world.ok()) {
    std::fprintf(stderr, "%s\n", world.status().message().c_str());
    return 1;
  }
  const auto check = [&](const char* what, const Status& status) {
    if (status.ok()) return;
    std::fprintf(stderr, "rank %d of %d: %s: %s\n", (*world)->rank(), (*world)->size(), what,
                 status.message().c_str());
    (*world)->abort(1);
  };
  {
    auto all = (*world)->communicator();
    check("communicator", all.status());
    // Ranks that cannot share memory use messages, silently: here that would be another test.
    const bool one_host = (*world)->size() > 1 && (*world)->host_size() == (*world)->size();
    if (maps_a_shared_window() != (one_host && options.shared_memory))
      check("the way", unavailable("the ranks do not use the way that was asked for"));
    ContractSite site{**all};
    for (const CommunicatorClause& clause : communicator_contract()) {
      check(clause.name, clause.run(site));
      if ((*all)->rank() == 0) std::printf("%s: kept\n", clause.name);
    }
  }
  return 0;
}
