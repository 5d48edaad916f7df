// Starts the ranks of a job on this host: runs this program again under Open MPI's mpirun, with the
// same arguments, and stands by until it ends. The user types `trireme generate ...
// --tensor-parallel-size 2`, sees the ranks' stdout untouched and, whatever goes wrong, one
// message.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/status.h"

namespace trireme {

// The full path of mpirun.openmpi, or of mpirun, in the folders of `path` (the value of PATH).
// kNotFound says what to install.
Result<std::string> find_mpirun(std::string_view path);

// The command line that runs `program args...` as `ranks` ranks on a host with `cores` cores.
std::vector<std::string> mpirun_command(const std::string& mpirun, int ranks, int cores,
                                        const std::string& program,
                                        std::span<const std::string> args);

// What the first SIGINT, SIGTERM or SIGHUP does to the job.
enum class Stopping : uint8_t {
  kEnd,    // it ends
  kDrain,  // its ranks get SIGUSR1, which mpirun passes on, and end by themselves; the second ends
           // it
};

// Runs the command, with the permission to run as root that Open MPI asks for where this is root,
// and waits for its end. SIGINT, SIGTERM and SIGHUP that come meanwhile are passed on. Returns the
// command's exit code; kExitSignal + signal if one was passed on; kExitRankLost, with a message
// printed, where a rank was killed or crashed. If this process dies, the job is told to end.
// REQUIRES: no other thread has been started.
Result<int> run_job(std::span<const std::string> command, Stopping stopping = Stopping::kEnd);

}  // namespace trireme
