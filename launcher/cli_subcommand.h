// One subcommand of the command line: its flags, what they fill, and what is checked once all of it
// is read. Each group of subcommands has a file of its own, launcher/cli_<group>.cc, with a
// function add_<group>_commands() that cli.cc calls; a subcommand is added there and nowhere else
// but for main.cc, which runs it.
#pragma once

#include <deque>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "launcher/cli.h"

namespace trireme {

// A flag that sets a key of the YAML schema.
struct KeyFlag {
  enum class Takes : uint8_t { kOne, kList, kMap, kNothing };
  std::string_view flag;  // "-m,--model"
  std::string_view key;
  Takes takes = Takes::kOne;
  std::string_view value_name = "";
};

// Flags that several subcommands have.
std::span<const KeyFlag> model_flags();
std::span<const KeyFlag> engine_flags();
std::span<const KeyFlag> generate_flags();
std::span<const KeyFlag> serve_flags();

class Subcommand {
 public:
  using Check = std::function<Status(const Subcommand& sub, CommandLine& line)>;

  Subcommand(CLI::App& app, Command command, const std::string& name,
             const std::string& description);

  // Flags that set keys of the schema; help and checks are the schema's.
  void add_keys(std::span<const KeyFlag> flags);
  // --config and --set.
  void add_config();
  // One text, for `target`, or for text_of(flag). Without dashes the flag is a positional.
  void add_text(const char* flag, const char* value_name, const std::string& description,
                std::string* target = nullptr);
  // For `target`, or for given(flag).
  void add_switch(const char* flag, bool& target, const std::string& description,
                  bool value = true);
  void add_switch(const char* flag, const std::string& description);
  // A positional that is a deployment (*.yaml, *.yml) or a model: like --config or --model.
  void add_model_or_file();
  // A positional that is a deployment.
  void add_file();
  // What is wrong, or left to do, once everything is in the command line.
  void set_check(Check check) { check_ = std::move(check); }
  void set_examples(const std::string& examples) { app_->footer("Examples:\n" + examples); }

  bool parsed() const { return app_->parsed(); }
  Command command() const { return command_; }
  CLI::App& app() { return *app_; }
  std::string name() const { return app_->get_name(); }
  bool given(std::string_view flag) const { return app_->count(std::string(flag)) > 0; }
  // "" where it was not given.
  std::string text_of(std::string_view flag) const;

  // Reads the file, then the flags over it, then --set over both; then checks.
  Status apply(CommandLine& line) const;

  // kInvalidArgument "<what>; see trireme <name> --help".
  Status usage(std::string_view what) const;
  // No model at all.
  Status need_model(const Deployment& deployment) const;

 private:
  struct Switch {
    CLI::Option* option;
    bool* target;
    bool value;
  };
  CLI::Option* one_word(CLI::Option* option, std::string_view value_name);
  Status check_extras() const;
  // What the positional says, "" where it is not given or is the other.
  std::string word_as_file() const;
  std::string word_as_model() const;
  Status apply_files(Deployment& deployment) const;
  Status apply_flags(Deployment& deployment) const;

  Command command_;
  CLI::App* app_;
  CLI::Option* config_ = nullptr;
  CLI::Option* set_ = nullptr;
  CLI::Option* word_ = nullptr;  // of add_model_or_file, add_file
  bool word_is_file_ = false;    // whatever its name
  std::vector<std::pair<const KeyFlag*, CLI::Option*>> keys_;
  std::vector<std::pair<CLI::Option*, std::string*>> texts_;
  std::vector<Switch> switches_;
  Check check_;
};

// All of them. A deque: references to its elements stay good.
class Subcommands {
 public:
  explicit Subcommands(CLI::App& app) : app_(app) {}
  Subcommand& add(Command command, const std::string& name, const std::string& description) {
    return list_.emplace_back(app_, command, name, description);
  }
  auto begin() { return list_.begin(); }
  auto end() { return list_.end(); }

 private:
  CLI::App& app_;
  std::deque<Subcommand> list_;
};

// What the flags fill is `line`'s, which lives until they are parsed.
void add_model_commands(Subcommands& subcommands, CommandLine& line);   // generate, score, inspect
void add_serve_commands(Subcommands& subcommands, CommandLine& line);   // serve
void add_file_commands(Subcommands& subcommands, CommandLine& line);    // tokenize, convert
void add_config_commands(Subcommands& subcommands, CommandLine& line);  // config
void add_doctor_commands(Subcommands& subcommands, CommandLine& line);  // doctor

}  // namespace trireme
