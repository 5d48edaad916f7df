// What every Communicator promises, clause by clause, for any number of ranks, for tensors on the
// host and for those of a device. Every rank of a world runs the same clauses in the same order; a
// clause answers with the first promise it saw broken. After a failed clause the rank drops its
// communicator (threads) or ends the job (MPI), so that the other ranks do not wait for it.
#pragma once

#include <span>
#include <vector>

#include "comm/communicator.h"
#include "kernels/device.h"

namespace trireme {

// Where a rank runs the clauses.
struct ContractSite {
  Communicator& world;
  Device* device = nullptr;  // where the tensors lie; null: on the host
  // The Row law. Else sums may be in any order that gives the same bits on every rank.
  bool sums_in_rank_order = true;
  // Device memory that tensors left behind: freeing it may wait for all that the device does, and
  // what it does may be a send that nobody receives yet.
  std::vector<Buffer> spare = {};
};

struct CommunicatorClause {
  const char* name;
  Status (*run)(ContractSite& site);
};

std::span<const CommunicatorClause> communicator_contract();

}  // namespace trireme
