#include "launcher/cli.h"

#include <algorithm>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "launcher/cli_subcommand.h"
#include "runtime/config/nearest.h"

namespace trireme {
namespace {

// All subcommands, and what is none of them.
class Parser {
 public:
  Parser(CommandLine& line, const std::function<std::string()>& version)
      : line_(line),
        version_(version),
        app_("Trireme runs large language models: GQA, RWKV and YOCO, sharded over MPI ranks.",
             "trireme") {
    app_.require_subcommand(0, 1)->allow_extras();
    app_.add_flag("--version", show_version_, "version, compiler, instruction set, MPI, CUDA");
    app_.footer(
        "Examples:\n"
        "  trireme generate --model DIR --prompt \"Once upon a time\" --max-tokens 32\n"
        "  trireme generate --config deployment.yaml --tensor-parallel-size 2 --stats\n"
        "  trireme serve deployment.yaml --port 8000\n"
        "  trireme config check deployment.yaml\n"
        "  trireme doctor\n"
        "  trireme score --model DIR --text-file text.txt --json\n"
        "  trireme bench serve --base-url http://127.0.0.1:8000 --max-concurrency 16\n"
        "Exit codes: 0 ok, 1 run-time error, 2 usage or configuration, 3 does not fit,\n"
        "5 model file invalid, 6 rank lost, 7 time-out, 130 SIGINT, 143 SIGTERM");
    add_model_commands(subcommands_, line_);
    add_serve_commands(subcommands_, line_);
    add_file_commands(subcommands_, line_);
    add_config_commands(subcommands_, line_);
    add_doctor_commands(subcommands_, line_);
    client_ = std::make_unique<ClientCommands>(app_);
  }

  Status parse(std::span<const std::string> args) {
    std::vector<std::string> reversed(args.rbegin(), args.rend());
    try {
      app_.parse(reversed);
    } catch (const CLI::CallForHelp&) {
      for (Subcommand& sub : subcommands_) {
        if (sub.parsed()) return print(sub.app().help(app_.get_name()));
      }
      if (const CLI::App* client = client_->parsed()) {
        const bool nested = client->get_parent() != &app_;
        return print(client->help(app_.get_name() + (nested ? " bench" : "")));
      }
      return print(app_.help());
    } catch (const CLI::ArgumentMismatch& e) {
      const std::string_view what = e.what();
      return usage(fmt::format("{} needs a value", what.substr(0, what.find(':'))));
    } catch (const CLI::ParseError& e) {
      return usage(e.what());
    }
    if (show_version_) return print(version_());
    for (Subcommand& sub : subcommands_) {
      if (!sub.parsed()) continue;
      line_.command = sub.command();
      return sub.apply(line_);
    }
    if (client_->parsed() != nullptr) {
      line_.command = Command::kClient;
      Result<ClientCommand> client = client_->take();
      if (client.ok()) line_.client = client.take();
      return client.status();
    }
    if (args.empty()) return print(app_.help());
    return unknown_command(args.front());
  }

 private:
  Status print(std::string text) {
    line_.command = Command::kPrint;
    line_.text = std::move(text);
    return {};
  }

  // CLI11's sentence without its line breaks.
  static Status usage(std::string message) {
    std::replace(message.begin(), message.end(), '\n', ' ');
    while (!message.empty() && (message.back() == ' ' || message.back() == '.')) message.pop_back();
    return invalid_argument(message + "; see trireme --help");
  }

  Status unknown_command(const std::string& word) {
    std::vector<std::string> names;
    for (Subcommand& sub : subcommands_) names.push_back(sub.name());
    for (std::string& name : ClientCommands::names()) names.push_back(std::move(name));
    const std::vector<std::string_view> views(names.begin(), names.end());
    return invalid_argument(fmt::format("unknown {} '{}'{}; see trireme --help",
                                        word.starts_with('-') ? "option" : "command", word,
                                        did_you_mean(word, views)));
  }

  CommandLine& line_;
  const std::function<std::string()>& version_;
  CLI::App app_;
  bool show_version_ = false;
  Subcommands subcommands_{app_};
  std::unique_ptr<ClientCommands> client_;
};

}  // namespace

Result<CommandLine> parse_command_line(std::span<const std::string> args,
                                       const std::function<std::string()>& version) {
  CommandLine line;
  Parser parser(line, version);
  if (Status s = parser.parse(args); !s.ok()) return s;
  return line;
}

}  // namespace trireme
