// The command line of the client programs: chat, top, trace and bench serve. They talk to a server
// over HTTP and know no deployment, so their options are no keys of the YAML schema.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <variant>

#include <CLI/CLI.hpp>

#include "kernels/base/status.h"
#include "launcher/client/bench_serve.h"
#include "launcher/client/chat.h"
#include "launcher/client/top.h"
#include "launcher/client/trace.h"

namespace trireme {

using ClientCommand = std::variant<BenchServeOptions, ChatOptions, TopOptions, TraceOptions>;

// Adds its subcommands to `app`, which it must not outlive.
class ClientCommands {
 public:
  explicit ClientCommands(CLI::App& app);
  ~ClientCommands();

  // After a parse. The subcommand that was given, or nullptr.
  const CLI::App* parsed() const;
  // Its options. REQUIRES: parsed() != nullptr. The error is one sentence.
  Result<ClientCommand> take();
  // Names of the subcommands, for suggestions.
  static std::vector<std::string> names() { return {"bench", "chat", "top", "trace"}; }

 private:
  struct Options;
  std::unique_ptr<Options> options_;
};

// Runs it and returns the exit code; says on stderr why where that is not 0.
int run_client(const ClientCommand& command);

}  // namespace trireme
