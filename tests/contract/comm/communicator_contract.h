// What every Communicator promises, clause by clause, for any number of ranks. Every rank of a
// world runs the same clauses in the same order; a clause answers with the first promise it saw
// broken. After a failed clause the rank drops its communicator (threads) or ends the job (MPI), so
// that the other ranks do not wait for it.
#pragma once

#include <span>

#include "comm/communicator.h"

namespace trireme {

struct CommunicatorClause {
  const char* name;
  Status (*run)(Communicator& world);
};

std::span<const CommunicatorClause> communicator_contract();

}  // namespace trireme
