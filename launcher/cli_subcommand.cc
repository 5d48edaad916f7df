#include "launcher/cli_subcommand.h"

#include <fmt/format.h>

#include "runtime/config/config_reader.h"
#include "runtime/config/nearest.h"
#include "runtime/config/schema.h"

namespace trireme {
namespace {

using Takes = KeyFlag::Takes;

// What the user gave for a KeyFlag, as the schema reads it.
Result<ConfigNode> value_of(const KeyFlag& flag, const std::vector<std::string>& given) {
  const std::string where(flag.flag.substr(flag.flag.find("--")));
  if (flag.takes == Takes::kNothing) return ConfigNode::argument("true", where);
  if (flag.takes == Takes::kOne) return ConfigNode::argument(given.back(), where);
  ConfigNode node;
  node.kind = flag.takes == Takes::kList ? ConfigNode::Kind::kList : ConfigNode::Kind::kMap;
  node.where = where;
  for (const std::string& text : given) {
    if (flag.takes == Takes::kList) {
      node.items.push_back(ConfigNode::argument(text, where));
      continue;
    }
    const size_t equals = text.find('=');
    if (equals == std::string::npos)
      return node.error(fmt::format("expected {}, found '{}'", flag.value_name, text));
    node.entries.push_back({ConfigNode::argument(text.substr(0, equals), where),
                            ConfigNode::argument(text.substr(equals + 1), where)});
  }
  return node;
}

}  // namespace

Subcommand::Subcommand(CLI::App& app, Command command, const std::string& name,
                       const std::string& description)
    : command_(command), app_(app.add_subcommand(name, description)) {
  app_->allow_extras();  // reported by check_extras, with a suggestion
}

CLI::Option* Subcommand::one_word(CLI::Option* option, std::string_view value_name) {
  return option->type_name(std::string(value_name))->type_size(1)->expected(1)->take_last();
}

void Subcommand::add_keys(std::span<const KeyFlag> flags) {
  for (const KeyFlag& flag : flags) {
    const ConfigKey* key = find_config_key(flag.key);
    CHECK(key != nullptr) << flag.key;
    const std::string description = key->fallback == "none"
                                        ? key->meaning
                                        : fmt::format("{} [{}]", key->meaning, key->fallback);
    CLI::Option* option = flag.takes == Takes::kNothing
                              ? app_->add_flag(std::string(flag.flag), description)
                              : app_->add_option(std::string(flag.flag), description);
    if (flag.takes != Takes::kNothing) {
      one_word(option, flag.value_name);
      if (flag.takes != Takes::kOne) option->take_all();
    }
    keys_.emplace_back(&flag, option);
  }
}

void Subcommand::add_config() {
  config_ =
      one_word(app_->add_option("-c,--config", "a deployment: configs/README.md"), "FILE.yaml");
  set_ =
      one_word(app_->add_option("--set", "any key of the deployment, over the file's"), "KEY=VALUE")
          ->take_all();
}

void Subcommand::add_text(const char* flag, const char* value_name, const std::string& description,
                          std::string* target) {
  texts_.emplace_back(one_word(app_->add_option(flag, description), value_name), target);
}

void Subcommand::add_switch(const char* flag, bool& target, const std::string& description,
                            bool value) {
  switches_.push_back({app_->add_flag(flag, description), &target, value});
}

void Subcommand::add_switch(const char* flag, const std::string& description) {
  app_->add_flag(flag, description);
}

void Subcommand::add_model_or_file() {
  word_ = one_word(app_->add_option("MODEL", "the model, or a deployment"), "MODEL|FILE.yaml");
}

void Subcommand::add_file() {
  word_ = one_word(app_->add_option("FILE", "the deployment"), "FILE.yaml");
  word_is_file_ = true;
}

std::string Subcommand::word_as_file() const {
  if (word_ == nullptr || word_->count() == 0) return {};
  const std::string& word = word_->results().back();
  return word_is_file_ || word.ends_with(".yaml") || word.ends_with(".yml") ? word : "";
}

std::string Subcommand::word_as_model() const {
  if (word_ == nullptr || word_->count() == 0 || !word_as_file().empty()) return {};
  return word_->results().back();
}

std::string Subcommand::text_of(std::string_view flag) const {
  const CLI::Option* option = app_->get_option(std::string(flag));
  return option->count() > 0 ? option->results().back() : std::string();
}

Status Subcommand::apply_files(Deployment& deployment) const {
  std::string file = word_as_file();
  if (config_ != nullptr && config_->count() > 0) {
    if (!file.empty())
      return usage(fmt::format("'{}' and --config are both given: keep one", file));
    file = config_->results().back();
  }
  return file.empty() ? Status{} : read_config_file(file, deployment);
}

Status Subcommand::apply_flags(Deployment& deployment) const {
  if (const std::string model = word_as_model(); !model.empty()) {
    if (given("--model"))
      return usage(fmt::format("'{}' and --model are both given: keep one", model));
    const ConfigNode value = ConfigNode::argument(model, "MODEL");
    if (Status s = set_config_key("model.path", value, deployment); !s.ok()) return s;
  }
  for (const auto& [flag, option] : keys_) {
    if (option->count() == 0) continue;
    const Result<ConfigNode> value = value_of(*flag, option->results());
    if (!value.ok()) return value.status();
    if (Status s = set_config_key(flag->key, *value, deployment); !s.ok()) return s;
  }
  if (set_ == nullptr) return {};
  for (const std::string& assignment : set_->results()) {
    if (Status s = apply_override(assignment, deployment); !s.ok()) return s;
  }
  return {};
}

Status Subcommand::apply(CommandLine& line) const {
  if (Status s = check_extras(); !s.ok()) return s;
  for (const auto& [option, target] : texts_) {
    if (target != nullptr && option->count() > 0) *target = option->results().back();
  }
  for (const auto& [option, target, value] : switches_) {
    if (option->count() > 0) *target = value;
  }
  if (Status s = apply_files(line.deployment); !s.ok()) return s;
  if (Status s = apply_flags(line.deployment); !s.ok()) return s;
  return check_ ? check_(*this, line) : Status{};
}

Status Subcommand::usage(std::string_view what) const {
  return invalid_argument(fmt::format("{}; see trireme {} --help", what, name()));
}

Status Subcommand::need_model(const Deployment& deployment) const {
  if (!deployment.model.path.empty()) return {};
  return usage(fmt::format("no model: give --model PATH{}",
                           config_ == nullptr ? "" : " or --config FILE.yaml"));
}

Status Subcommand::check_extras() const {
  const std::vector<std::string> extras = app_->remaining();
  if (extras.empty()) return {};
  const std::string& word = extras.front();
  if (word.size() < 2 || word[0] != '-')
    return usage(fmt::format("unexpected argument '{}'", word));
  const std::string flag = word.substr(0, word.find('='));
  std::vector<std::string> names;
  for (const CLI::Option* option : app_->get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  const std::vector<std::string_view> views(names.begin(), names.end());
  return usage(fmt::format("unknown option '{}'{}", flag, did_you_mean(flag, views)));
}

}  // namespace trireme
