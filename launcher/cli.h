// The command line: git-style subcommands of one binary. What YAML also says has the same words
// with '-' for '_', the same checks and the same defaults (runtime/config/schema.h); the command
// line wins over the file.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "kernels/base/status.h"
#include "launcher/cli_client.h"
#include "launcher/commands/commands.h"
#include "runtime/config/deployment.h"

namespace trireme {

enum class Command : uint8_t {
  kPrint,
  kGenerate,
  kScore,
  kServe,
  kInspect,
  kTokenize,
  kConvert,
  kDoctor,
  kClient
};

struct CommandLine {
  Command command = Command::kPrint;
  std::string text;  // kPrint: --help, --version, config
  Deployment deployment;
  GenerateFlags generate;
  ScoreFlags score;
  InspectFlags inspect;
  TokenizeFlags tokenize;
  ConvertFlags convert;
  DoctorFlags doctor;
  ClientCommand client;  // kClient: chat, top, trace, bench serve
};

// `args` without the program's name; `version` makes what --version prints, when it is asked for.
// Reads the YAML file that --config names. The error is one sentence, with the flag or file and
// place, to be answered with exit code 2.
Result<CommandLine> parse_command_line(std::span<const std::string> args,
                                       const std::function<std::string()>& version);

}  // namespace trireme
