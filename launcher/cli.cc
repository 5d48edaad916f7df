#include "launcher/cli.h"

#include <algorithm>
#include <charconv>
#include <deque>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "runtime/config/config_reader.h"
#include "runtime/config/nearest.h"
#include "runtime/config/schema.h"

namespace trireme {
namespace {

// A flag that sets a key of the YAML schema.
struct KeyFlag {
  enum class Takes : uint8_t { kOne, kList, kMap, kNothing };
  std::string_view flag;  // "-m,--model"
  std::string_view key;
  Takes takes = Takes::kOne;
  std::string_view value_name = "";
};
using Takes = KeyFlag::Takes;

constexpr KeyFlag kModelFlags[] = {
    {"-m,--model", "model.path", Takes::kOne, "PATH"},
    {"--tokenizer", "model.tokenizer", Takes::kOne, "PATH"},
};
constexpr KeyFlag kEngineFlags[] = {
    {"--dtype", "model.dtype", Takes::kOne, "TYPE"},
    {"--load-format", "model.load_format", Takes::kOne, "FORMAT"},
    {"--max-model-len", "model.max_model_len", Takes::kOne, "N"},
    {"--device", "engine.device", Takes::kOne, "DEVICE"},
    {"--tensor-parallel-size", "engine.tensor_parallel_size", Takes::kOne, "N"},
    {"--pipeline-parallel-size", "engine.pipeline_parallel_size", Takes::kOne, "N"},
    {"--threads", "engine.threads", Takes::kOne, "N"},
    {"--prefill-chunk", "engine.prefill_chunk", Takes::kOne, "N"},
    {"--kv-cache-dtype", "engine.kv_cache_dtype", Takes::kOne, "TYPE"},
    {"--isa", "engine.isa", Takes::kOne, "SET"},
};
constexpr KeyFlag kGenerateFlags[] = {
    {"-p,--prompt", "generate.prompts", Takes::kList, "TEXT"},
    {"--prompt-file", "generate.prompt_file", Takes::kOne, "FILE"},
    {"--max-tokens", "generate.max_tokens", Takes::kOne, "N"},
    {"--temperature", "sampling.temperature", Takes::kOne, "T"},
    {"--top-p", "sampling.top_p", Takes::kOne, "P"},
    {"--top-k", "sampling.top_k", Takes::kOne, "K"},
    {"--min-p", "sampling.min_p", Takes::kOne, "P"},
    {"--repetition-penalty", "sampling.repetition_penalty", Takes::kOne, "X"},
    {"--presence-penalty", "sampling.presence_penalty", Takes::kOne, "X"},
    {"--frequency-penalty", "sampling.frequency_penalty", Takes::kOne, "X"},
    {"--logit-bias", "sampling.logit_bias", Takes::kMap, "ID=X"},
    {"--stop", "sampling.stop", Takes::kList, "TEXT"},
    {"--stop-token-id", "sampling.stop_token_ids", Takes::kList, "ID"},
    {"--ignore-eos", "sampling.ignore_eos", Takes::kNothing},
    {"--min-tokens", "sampling.min_tokens", Takes::kOne, "N"},
    {"--seed", "sampling.seed", Takes::kOne, "N"},
};

constexpr KeyFlag kServeFlags[] = {
    {"--host", "gateway.host", Takes::kOne, "ADDRESS"},
    {"--port", "gateway.port", Takes::kOne, "N"},
    {"--api-keys-file", "gateway.api_keys_file", Takes::kOne, "FILE"},
    {"--served-model-name", "model.served_model_name", Takes::kList, "NAME"},
    {"--chat-template", "model.chat_template", Takes::kOne, "FILE"},
    {"--max-num-seqs", "engine.max_num_seqs", Takes::kOne, "N"},
    {"--max-num-batched-tokens", "engine.max_num_batched_tokens", Takes::kOne, "N"},
    {"--cpu-kv-cache-space", "engine.cpu_kv_cache_space", Takes::kOne, "SIZE"},
};

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

// One subcommand while it is parsed: the CLI11 options that belong to it and what they fill.
class Subcommand {
 public:
  Subcommand(CLI::App& app, Command command, const char* name, const std::string& description)
      : command_(command), app_(app.add_subcommand(name, description)) {
    app_->allow_extras();  // reported by check_extras, with a suggestion
  }

  void add_keys(std::span<const KeyFlag> flags) {
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
  void add_config() {
    config_ =
        one_word(app_->add_option("-c,--config", "a deployment: configs/README.md"), "FILE.yaml");
    set_ = one_word(app_->add_option("--set", "any key of the deployment, over the file's"),
                    "KEY=VALUE")
               ->take_all();
  }
  void add_text(const char* flag, std::string& target, const char* value_name,
                const std::string& description) {
    texts_.emplace_back(one_word(app_->add_option(flag, description), value_name), &target);
  }
  void add_switch(const char* flag, bool& target, const std::string& description,
                  bool value = true) {
    switches_.push_back({app_->add_flag(flag, description), &target, value});
  }

  bool parsed() const { return app_->parsed(); }
  Command command() const { return command_; }
  CLI::App& app() { return *app_; }
  std::string text_of(const char* flag) const { return app_->get_option(flag)->results().back(); }
  bool given(std::string_view flag) const { return app_->count(std::string(flag)) > 0; }

  // Reads the file, then the flags over it, then --set over both.
  Status apply(Deployment& deployment) const {
    for (const auto& [option, target] : texts_) {
      if (option->count() > 0) *target = option->results().back();
    }
    for (const auto& [option, target, value] : switches_) {
      if (option->count() > 0) *target = value;
    }
    if (config_ != nullptr && config_->count() > 0) {
      if (Status s = read_config_file(config_->results().back(), deployment); !s.ok()) return s;
    }
    for (const auto& [flag, option] : keys_) {
      if (option->count() == 0) continue;
      const Result<ConfigNode> value = value_of(*flag, option->results());
      if (!value.ok()) return value.status();
      if (Status s = set_config_key(flag->key, *value, deployment); !s.ok()) return s;
    }
    if (set_ != nullptr && set_->count() > 0) {
      for (const std::string& assignment : set_->results()) {
        if (Status s = apply_override(assignment, deployment); !s.ok()) return s;
      }
    }
    return {};
  }

  Status check_extras() const {
    const std::vector<std::string> extras = app_->remaining();
    if (extras.empty()) return {};
    const std::string& word = extras.front();
    const std::string hint = fmt::format("; see trireme {} --help", app_->get_name());
    if (word.size() < 2 || word[0] != '-')
      return invalid_argument(fmt::format("unexpected argument '{}'{}", word, hint));
    const std::string flag = word.substr(0, word.find('='));
    std::vector<std::string> names;
    for (const CLI::Option* option : app_->get_options()) {
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    }
    const std::vector<std::string_view> views(names.begin(), names.end());
    return invalid_argument(
        fmt::format("unknown option '{}'{}{}", flag, did_you_mean(flag, views), hint));
  }

  static CLI::Option* one_word(CLI::Option* option, std::string_view value_name) {
    return option->type_name(std::string(value_name))->type_size(1)->expected(1)->take_last();
  }

 private:
  struct Switch {
    CLI::Option* option;
    bool* target;
    bool value;
  };

  Command command_;
  CLI::App* app_;
  CLI::Option* config_ = nullptr;
  CLI::Option* set_ = nullptr;
  std::vector<std::pair<const KeyFlag*, CLI::Option*>> keys_;
  std::vector<std::pair<CLI::Option*, std::string*>> texts_;
  std::vector<Switch> switches_;
};

Result<std::vector<int32_t>> parse_ids(std::string_view text) {
  std::vector<int32_t> ids;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    if (*at == ',' || *at == ' ') {
      ++at;
      continue;
    }
    int32_t id = 0;
    const auto [next, error] = std::from_chars(at, end, id);
    if (error != std::errc() || id < 0 || (next != end && *next != ',' && *next != ' '))
      return invalid_argument(
          fmt::format("--ids: '{}' is no list of token ids, as in 1,15,7", text));
    ids.push_back(id);
    at = next;
  }
  return ids;
}

// All subcommands, and what of them is no key of the schema.
class Parser {
 public:
  Parser(CommandLine& line, const std::string& version)
      : line_(line),
        version_(version),
        app_("Trireme runs large language models: GQA, RWKV and YOCO, sharded over MPI ranks.",
             "trireme") {
    app_.require_subcommand(0, 1)->allow_extras();
    app_.add_flag("--version", show_version_, "version, compiler, instruction set, MPI library");
    app_.footer(
        "Examples:\n"
        "  trireme generate --model DIR --prompt \"Once upon a time\" --max-tokens 32\n"
        "  trireme generate --config deployment.yaml --tensor-parallel-size 2 --stats\n"
        "  trireme serve deployment.yaml --port 8000\n"
        "  trireme score --model DIR --text-file text.txt --json\n"
        "Exit codes: 0 ok, 1 run-time error, 2 usage or configuration, 3 does not fit,\n"
        "5 model file invalid, 6 rank lost, 7 time-out, 130 SIGINT, 143 SIGTERM");
    add_generate();
    add_score();
    add_serve();
    add_inspect();
    add_tokenize();
    add_convert();
  }

  Status parse(std::span<const std::string> args) {
    std::vector<std::string> reversed(args.rbegin(), args.rend());
    try {
      app_.parse(reversed);
    } catch (const CLI::CallForHelp&) {
      for (Subcommand& sub : subcommands_) {
        if (sub.parsed()) return print(sub.app().help(app_.get_name()));
      }
      return print(app_.help());
    } catch (const CLI::ArgumentMismatch& e) {
      const std::string_view what = e.what();
      return usage(fmt::format("{} needs a value", what.substr(0, what.find(':'))));
    } catch (const CLI::ParseError& e) {
      return usage(e.what());
    }
    if (show_version_) return print(version_);
    for (Subcommand& sub : subcommands_) {
      if (!sub.parsed()) continue;
      if (Status s = sub.check_extras(); !s.ok()) return s;
      line_.command = sub.command();
      // `trireme serve FILE.yaml` is `trireme serve --config FILE.yaml`.
      if (sub.command() == Command::kServe && sub.given("MODEL") && !sub.given("--config")) {
        const std::string what = sub.text_of("MODEL");
        if (what.ends_with(".yaml") || what.ends_with(".yml")) {
          if (Status s = read_config_file(what, line_.deployment); !s.ok()) return s;
        } else {
          line_.deployment.model.path = what;
        }
      }
      if (Status s = sub.apply(line_.deployment); !s.ok()) return s;
      return check(sub);
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
    for (Subcommand& sub : subcommands_) names.push_back(sub.app().get_name());
    const std::vector<std::string_view> views(names.begin(), names.end());
    return invalid_argument(fmt::format("unknown {} '{}'{}; see trireme --help",
                                        word.starts_with('-') ? "option" : "command", word,
                                        did_you_mean(word, views)));
  }

  Subcommand& add(Command command, const char* name, const std::string& description) {
    return subcommands_.emplace_back(app_, command, name, description);
  }

  void add_generate() {
    Subcommand& sub = add(Command::kGenerate, "generate", "prompts to text");
    sub.add_config();
    sub.add_keys(kModelFlags);
    sub.add_keys(kGenerateFlags);
    sub.add_keys(kEngineFlags);
    sub.add_switch("--json", line_.generate.json, "the result as JSON");
    sub.add_switch("--stats", line_.generate.stats, "times and rates, on stderr");
  }
  void add_score() {
    Subcommand& sub = add(Command::kScore, "score", "the log-probability of each token of a text");
    sub.add_config();
    sub.add_keys(kModelFlags);
    sub.add_text("--text-file", line_.score.text_file, "FILE", "the text to score");
    sub.add_text("--tokens-file", line_.score.tokens_file, "FILE.json",
                 "or its tokens: a JSON list of ids");
    sub.add_text("--logits", line_.score.logits_file, "OUT.safetensors",
                 "write the logits of every position");
    sub.add_keys(kEngineFlags);
    sub.add_switch("--json", line_.score.json, "the result as JSON");
  }
  void add_serve() {
    Subcommand& sub = add(Command::kServe, "serve", "an OpenAI-compatible server of a model");
    sub.add_config();
    sub.add_keys(kModelFlags);
    sub.add_text("MODEL", serve_what_, "MODEL|FILE.yaml", "the model, or a deployment");
    sub.add_keys(kServeFlags);
    sub.add_keys(kEngineFlags);
  }
  void add_inspect() {
    Subcommand& sub =
        add(Command::kInspect, "inspect", "what a model is, and how a mesh would cut it");
    sub.add_config();
    sub.add_keys(kModelFlags);
    sub.add_text("PATH", inspect_path_, "PATH", "the model");
    sub.add_keys(kEngineFlags);
    sub.add_switch("--json", line_.inspect.json, "the result as JSON");
  }
  void add_tokenize() {
    Subcommand& sub = add(Command::kTokenize, "tokenize", "text to token ids, and back");
    sub.add_keys(kModelFlags);
    sub.add_switch("--decode", line_.tokenize.decode, "token ids to text");
    sub.add_text("--ids", ids_, "ID,ID,...", "the ids to decode (default: from stdin)");
    sub.add_switch("--no-special", line_.tokenize.add_special,
                   "without the tokens that the tokenizer puts around a text", false);
    sub.add_text("TEXT", tokenize_text_, "TEXT", "the text (default: from stdin)");
    sub.add_switch("--json", line_.tokenize.json, "the result as JSON");
  }
  void add_convert() {
    Subcommand& sub = add(Command::kConvert, "convert", "checkpoints of other formats");
    sub.add_text("KIND", line_.convert.kind, "KIND",
                 "rwkv-pth: a .pth file of RWKV to .safetensors");
    sub.add_text("IN", line_.convert.in, "IN", "the file to read");
    sub.add_text("OUT", line_.convert.out, "OUT", "the file to write");
  }

  Status check(const Subcommand& sub) {
    const std::string help = fmt::format("; see trireme {} --help", line_name(sub.command()));
    if (sub.command() == Command::kConvert) return check_convert(help);
    if (sub.command() == Command::kInspect && !inspect_path_.empty())
      line_.deployment.model.path = inspect_path_;
    if (line_.deployment.model.path.empty() &&
        !(sub.command() == Command::kTokenize && line_.deployment.model.tokenizer.has_value()))
      return invalid_argument(fmt::format("no model: give {}{}",
                                          sub.command() == Command::kTokenize
                                              ? "--model PATH"
                                              : "--model PATH or --config FILE.yaml",
                                          help));
    if (sub.command() == Command::kGenerate) return check_generate(sub, help);
    if (sub.command() == Command::kScore) return check_score(help);
    if (sub.command() == Command::kTokenize) return check_tokenize(sub, help);
    return validate(line_.deployment);
  }

  Status check_generate(const Subcommand& sub, const std::string& help) {
    if (sub.given("--prompt") && sub.given("--prompt-file"))
      return invalid_argument("--prompt and --prompt-file are both given: keep one");
    const GenerateOptions& generate = line_.deployment.generate;
    if (generate.prompts.empty() && generate.prompt_file.empty())
      return invalid_argument(
          "no prompt: give --prompt TEXT or --prompt-file FILE, or generate.prompt in the YAML "
          "file" +
          help);
    return validate(line_.deployment);
  }

  Status check_score(const std::string& help) {
    const ScoreFlags& score = line_.score;
    if (score.text_file.empty() == score.tokens_file.empty())
      return invalid_argument(
          "score needs --text-file FILE or --tokens-file FILE.json, one of the "
          "two" +
          help);
    return validate(line_.deployment);
  }

  Status check_tokenize(const Subcommand& sub, const std::string& help) {
    TokenizeFlags& tokenize = line_.tokenize;
    if (sub.given("TEXT")) tokenize.text = tokenize_text_;
    if (tokenize.decode && tokenize.text.has_value())
      return invalid_argument("--decode takes --ids or ids on stdin, no TEXT" + help);
    if (!tokenize.decode && sub.given("--ids"))
      return invalid_argument("--ids goes with --decode" + help);
    Result<std::vector<int32_t>> ids = parse_ids(ids_);
    if (!ids.ok()) return ids.status();
    tokenize.ids = ids.take();
    return {};
  }

  Status check_convert(const std::string& help) {
    const ConvertFlags& convert = line_.convert;
    if (convert.out.empty()) return invalid_argument("convert needs KIND IN OUT" + help);
    static constexpr std::string_view kKinds[] = {"rwkv-pth"};
    if (convert.kind == kKinds[0]) return {};
    return invalid_argument(fmt::format("convert does not know '{}'{}: it knows rwkv-pth{}",
                                        convert.kind, did_you_mean(convert.kind, kKinds), help));
  }

  std::string line_name(Command command) {
    for (Subcommand& sub : subcommands_) {
      if (sub.command() == command) return sub.app().get_name();
    }
    return {};
  }

  CommandLine& line_;
  const std::string& version_;
  CLI::App app_;
  bool show_version_ = false;
  std::string inspect_path_, serve_what_, tokenize_text_, ids_;
  std::deque<Subcommand> subcommands_;  // a deque: references to its elements stay good
};

}  // namespace

Result<CommandLine> parse_command_line(std::span<const std::string> args,
                                       const std::string& version) {
  CommandLine line;
  Parser parser(line, version);
  if (Status s = parser.parse(args); !s.ok()) return s;
  return line;
}

}  // namespace trireme
