// doctor: what this machine has for us.
#include "launcher/cli_subcommand.h"

namespace trireme {

void add_doctor_commands(Subcommands& subcommands, CommandLine& line) {
  Subcommand& doctor =
      subcommands.add(Command::kDoctor, "doctor",
                      "what this machine has, and which device engine.device: auto would take");
  doctor.add_switch("--json", line.doctor.json, "the result as JSON");
}

}  // namespace trireme
