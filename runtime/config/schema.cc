#include "runtime/config/schema.h"

#include <initializer_list>
#include <limits>
#include <optional>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

#include "runtime/config/nearest.h"
#include "runtime/config/value_reader.h"

namespace trireme {
namespace {

constexpr int64_t kInt32Max = std::numeric_limits<int32_t>::max();

using Set = std::function<Status(const ConfigNode&, Deployment&)>;

// What a value may be, in words, and how it is put into its field.
struct Kind {
  std::string type;
  Set set;
};

// A field of a section of Deployment: field(&Deployment::engine, &EngineOptions::threads).
// `read` makes a Result of the field's type, or of what converts to it, from a node.
template <class Section, class Field, class Read>
Set put(Section Deployment::*section, Field Section::*field, Read read) {
  return [=](const ConfigNode& node, Deployment& deployment) -> Status {
    Field& target = deployment.*section.*field;
    if (node.kind == ConfigNode::Kind::kNull) {
      target = Deployment{}.*section.*field;
      return {};
    }
    auto value = read(node);
    if (!value.ok()) return value.status();
    if constexpr (std::is_arithmetic_v<Field>) {
      target = static_cast<Field>(*value);
    } else {
      target = std::move(*value);
    }
    return {};
  };
}

template <class Section, class Field>
Kind integer(Section Deployment::*section, Field Section::*field, int64_t min, int64_t max) {
  std::string type = max >= kInt32Max ? fmt::format("integer, at least {}", min)
                                      : fmt::format("integer, {} to {}", min, max);
  return {std::move(type),
          put(section, field, [=](const ConfigNode& node) -> Result<std::remove_cvref_t<Field>> {
            const Result<int64_t> value = read_integer(node, min, max);
            if (!value.ok()) return value.status();
            if constexpr (std::is_arithmetic_v<Field>) {
              return static_cast<Field>(*value);
            } else {
              return Field(static_cast<typename Field::value_type>(*value));
            }
          })};
}

template <class Section>
Kind seed(Section Deployment::*section, uint64_t Section::*field) {
  return {"integer, 0 to 2^64 - 1", put(section, field, read_unsigned)};
}

template <class Section>
Kind number(Section Deployment::*section, float Section::*field, std::string_view range) {
  return {fmt::format("number, {}", range), put(section, field, read_number)};
}

template <class Section>
Kind boolean(Section Deployment::*section, bool Section::*field) {
  return {"true or false", put(section, field, read_boolean)};
}

template <class Section>
Kind size(Section Deployment::*section, uint64_t Section::*field) {
  return {"size, as in 512MiB", put(section, field, read_size)};
}

template <class Section>
Kind duration(Section Deployment::*section, uint64_t Section::*field) {
  return {"duration, as in 30s", put(section, field, read_duration_ms)};
}

template <class Section, class Field>
Kind text(Section Deployment::*section, Field Section::*field) {
  return {"string", put(section, field, read_string)};
}

// One of a few words; each stands for a value of the field.
template <class Section, class Field>
Kind choice(Section Deployment::*section, Field Section::*field,
            std::initializer_list<std::pair<std::string_view, Field>> list) {
  std::vector<std::pair<std::string_view, Field>> choices(list);
  std::string type;
  for (const auto& [word, value] : choices)
    type += fmt::format("{}{}", type.empty() ? "" : ", ", word);
  return {type, put(section, field, [=](const ConfigNode& node) -> Result<Field> {
            std::vector<std::string_view> words;
            for (const auto& [word, value] : choices) {
              if (node.kind == ConfigNode::Kind::kScalar && node.text == word) return value;
              words.push_back(word);
            }
            return node.error(fmt::format("expected one of {}, found {}{}", type, node.describe(),
                                          did_you_mean(node.text, words)));
          })};
}

template <class Section>
Kind dtype(Section Deployment::*section, std::optional<DType> Section::*field) {
  return {"auto, float32, bfloat16, float16",
          put(section, field, [](const ConfigNode& node) -> Result<std::optional<DType>> {
            if (node.kind == ConfigNode::Kind::kScalar && node.text == "auto")
              return std::optional<DType>();
            const std::optional<DType> value = parse_dtype(node.text);
            if (value == DType::kF32 || value == DType::kBF16 || value == DType::kF16) return value;
            return node.error(
                fmt::format("expected one of auto, float32, bfloat16, float16 (or "
                            "fp32, bf16, fp16), found {}",
                            node.describe()));
          })};
}

Result<std::vector<std::string>> read_strings(const ConfigNode& node) {
  if (node.kind == ConfigNode::Kind::kMap)
    return node.error("expected a string or a list of strings, found a map");
  std::vector<std::string> values;
  const auto one = [&](const ConfigNode& item) -> Status {
    Result<std::string> value = read_string(item);
    if (!value.ok()) return value.status();
    values.push_back(value.take());
    return {};
  };
  if (node.kind == ConfigNode::Kind::kScalar) {
    if (Status s = one(node); !s.ok()) return s;
  }
  for (const ConfigNode& item : node.items) {
    if (Status s = one(item); !s.ok()) return s;
  }
  return values;
}

template <class Section>
Kind strings(Section Deployment::*section, std::vector<std::string> Section::*field) {
  return {"string or list of strings", put(section, field, read_strings)};
}

Result<std::vector<int32_t>> read_token_ids(const ConfigNode& node) {
  if (node.kind != ConfigNode::Kind::kList)
    return node.error(fmt::format("expected a list of token ids, found {}", node.describe()));
  std::vector<int32_t> ids;
  for (const ConfigNode& item : node.items) {
    const Result<int64_t> id = read_integer(item, 0, kInt32Max);
    if (!id.ok()) return id.status();
    ids.push_back(static_cast<int32_t>(*id));
  }
  return ids;
}

Result<std::vector<std::pair<int32_t, float>>> read_logit_bias(const ConfigNode& node) {
  if (node.kind != ConfigNode::Kind::kMap)
    return node.error(
        fmt::format("expected a map from token id to number, found {}", node.describe()));
  std::vector<std::pair<int32_t, float>> bias;
  for (const auto& [key, value] : node.entries) {
    ConfigNode id_node = key;  // JSON writes its keys in quotes
    if (id_node.style == ConfigNode::Style::kQuoted) id_node.style = ConfigNode::Style::kPlain;
    const Result<int64_t> id = read_integer(id_node, 0, kInt32Max);
    if (!id.ok()) return id.status();
    const Result<double> amount = read_number(value);
    if (!amount.ok()) return amount.status();
    bias.emplace_back(static_cast<int32_t>(*id), static_cast<float>(*amount));
  }
  return bias;
}

// The sampling keys' ranges are validate()'s: it looks at each value alone, so that its error has
// the value's place in the file. What two values must be together is checked once all are read.
Kind checked(Kind kind) {
  Set set = std::move(kind.set);
  kind.set = [set](const ConfigNode& node, Deployment& deployment) -> Status {
    Deployment alone;
    alone.sampling.max_tokens = std::numeric_limits<uint32_t>::max();
    if (Status s = set(node, alone); !s.ok()) return s;
    if (Status s = validate(alone.sampling); !s.ok()) return node.error(s.message());
    return set(node, deployment);
  };
  return kind;
}

// generate.prompt, prompts and prompt_file replace one another: the last one given counts, so that
// the command line overrides the file.
Kind prompt_source(Kind kind) {
  Set set = std::move(kind.set);
  kind.set = [set](const ConfigNode& node, Deployment& deployment) -> Status {
    Deployment fresh;
    if (Status s = set(node, fresh); !s.ok()) return s;
    deployment.generate = fresh.generate;
    return {};
  };
  return kind;
}

Kind one_prompt() {
  return {"string", put(&Deployment::generate, &GenerateOptions::prompts,
                        [](const ConfigNode& node) -> Result<std::vector<std::string>> {
                          Result<std::string> value = read_string(node);
                          if (!value.ok()) return value.status();
                          return std::vector<std::string>{value.take()};
                        })};
}

Kind version_one() {
  return {"1", [](const ConfigNode& node, Deployment&) -> Status {
            const Result<int64_t> value = read_integer(node, 1, kInt32Max);
            if (!value.ok()) return value.status();
            if (*value == 1) return {};
            return node.error(fmt::format(
                "version {} of the schema is not known: this program reads version 1", *value));
          }};
}

ConfigKey key(std::string path, Kind kind, std::string fallback, std::string meaning) {
  return {std::move(path), std::move(kind.type), std::move(fallback), std::move(meaning),
          std::move(kind.set)};
}
ConfigKey path_key(std::string path, Kind kind, std::string fallback, std::string meaning) {
  ConfigKey made = key(std::move(path), std::move(kind), std::move(fallback), std::move(meaning));
  made.is_path = true;
  return made;
}
ConfigKey prompt_key(ConfigKey made) {
  made.rivals = "prompt source";
  return made;
}

std::vector<ConfigKey> model_keys() {
  constexpr auto s = &Deployment::model;
  using M = ModelOptions;
  return {
      path_key(
          "model.path", text(s, &M::path), "none",
          "the model: a folder (config.json, tokenizer, *.safetensors) or one checkpoint file"),
      path_key("model.tokenizer", text(s, &M::tokenizer), "null",
               "the tokenizer: a folder or a file; null = the model's own"),
      key("model.dtype", dtype(s, &M::dtype), "auto",
          "element type of the weights in memory; auto = as the checkpoint has them"),
      key("model.load_format",
          choice<M, LoadFormat>(s, &M::load_format,
                                {{"auto", LoadFormat::kAuto}, {"dummy", LoadFormat::kDummy}}),
          "auto", "dummy = random weights from engine.seed: only config.json is read"),
      key("model.max_model_len", integer(s, &M::max_model_len, 1, kInt32Max), "null",
          "longest sequence, prompt and output, in tokens; null = the model's"),
      key("model.served_model_name", strings(s, &M::served_model_name), "[]",
          "names under which `serve` offers it; [] = the last part of its path"),
      path_key("model.chat_template", text(s, &M::chat_template), "null",
               "a file with the Jinja template of chats; null = the model's own"),
  };
}

std::vector<ConfigKey> engine_keys() {
  constexpr auto s = &Deployment::engine;
  using E = EngineOptions;
  return {
      key("engine.device",
          choice<E, DeviceKind>(s, &E::device,
                                {{"auto", DeviceKind::kAuto}, {"cpu", DeviceKind::kCpu}}),
          "auto", "where the ranks compute; auto = the best there is"),
      key("engine.tensor_parallel_size", integer(s, &E::tensor_parallel_size, 1, 1024), "null",
          "shards of each layer; null = 1, or the whole world under mpirun where "
          "pipeline_parallel_size is null too"),
      key("engine.pipeline_parallel_size", integer(s, &E::pipeline_parallel_size, 1, 1024), "null",
          "stages that the layers are cut into; null = 1"),
      key("engine.threads", integer(s, &E::threads, 0, 4096), "0",
          "threads of each rank; 0 = the host's cores divided by its ranks"),
      key("engine.max_num_batched_tokens", integer(s, &E::max_num_batched_tokens, 1, 1 << 20),
          "512", "most tokens that one step computes"),
      key("engine.max_num_seqs", integer(s, &E::max_num_seqs, 1, 1 << 16), "64",
          "most sequences in one step, each with at least one token"),
      key("engine.prefill_chunk", integer(s, &E::prefill_chunk, 0, 1 << 20), "0",
          "most prompt tokens of one sequence in one step; 0 = max_num_batched_tokens"),
      key("engine.block_size", integer(s, &E::block_size, 1, 4096), "32",
          "tokens of one cache block"),
      key("engine.kv_cache_dtype", dtype(s, &E::kv_cache_dtype), "auto",
          "element type of cached keys and values; auto = the engine chooses"),
      key("engine.cpu_kv_cache_space", size(s, &E::cpu_kv_cache_space), "1GiB",
          "memory for the cache, per rank"),
      key("engine.isa",
          choice<E, std::string>(
              s, &E::isa,
              {{"auto", "auto"}, {"scalar", "scalar"}, {"avx2", "avx2"}, {"avx512", "avx512"}}),
          "auto", "instruction set of the inner loops; auto = the widest; all give the same bits"),
      key("engine.seed", seed(s, &E::seed), "0", "seed of dummy weights"),
      key("engine.enable_prefix_caching", boolean(s, &E::enable_prefix_caching), "true",
          "serve: keep what prompts and answers left in the cache for requests that begin alike"),
      key("engine.prefix_granule", integer(s, &E::prefix_granule, 1, 1 << 16), "64",
          "serve: tokens of one key of the prefix cache"),
      key("engine.admission",
          choice<E, AdmissionKind>(
              s, &E::admission,
              {{"reserve", AdmissionKind::kReserve}, {"optimistic", AdmissionKind::kOptimistic}}),
          "reserve",
          "serve: reserve = a request starts when the cache has room for its end; optimistic = "
          "when "
          "it has room for its start, and the latest yields where it runs out"),
      key("engine.preemption",
          choice<E, PreemptionKind>(s, &E::preemption,
                                    {{"auto", PreemptionKind::kAuto},
                                     {"spill", PreemptionKind::kSpill},
                                     {"recompute", PreemptionKind::kRecompute}}),
          "auto",
          "serve: what becomes of one that yields: spill = kept in host memory, recompute, auto = "
          "the cheaper"),
      key("engine.swap_space", size(s, &E::swap_space), "1GiB",
          "serve: host memory for those that yielded, per rank"),
      key("engine.priority_aging", duration(s, &E::priority_aging_ms), "10s",
          "serve: waiting that makes up for one level of a request's priority"),
      key("engine.pipeline_depth", integer(s, &E::pipeline_depth, 0, 64), "0",
          "serve: steps under way at a time; 0 = the number of stages"),
      key("engine.max_queue", integer(s, &E::max_queue, 1, 1 << 20), "1024",
          "serve: requests that wait, at most; beyond them 429"),
      key("engine.step_timeout", duration(s, &E::step_timeout_ms), "5m",
          "serve: a step that takes longer ends the worker"),
  };
}

std::vector<ConfigKey> generate_keys() {
  constexpr auto s = &Deployment::generate;
  using G = GenerateOptions;
  return {
      prompt_key(key("generate.prompt", prompt_source(one_prompt()), "none",
                     "one prompt; of prompt, prompts and prompt_file at most one is given")),
      prompt_key(key("generate.prompts", prompt_source(strings(s, &G::prompts)), "none",
                     "one prompt or several, answered together")),
      prompt_key(path_key("generate.prompt_file", prompt_source(text(s, &G::prompt_file)), "none",
                          "a text file: all of it is one prompt")),
      key("generate.max_tokens",
          checked(integer(&Deployment::sampling, &SamplingParams::max_tokens, 1, kInt32Max)), "64",
          "most tokens of each output"),
  };
}

std::vector<ConfigKey> sampling_keys() {
  constexpr auto s = &Deployment::sampling;
  using P = SamplingParams;
  return {
      key("sampling.temperature", checked(number(s, &P::temperature, "0 to 2")), "1",
          "0 = greedy: always the likeliest token"),
      key("sampling.top_p", checked(number(s, &P::top_p, "above 0, at most 1")), "1",
          "choose from the fewest likeliest tokens whose probabilities reach it; 1 = off"),
      key("sampling.top_k", checked(integer(s, &P::top_k, -1, kInt32Max)), "0",
          "choose from so many likeliest tokens; 0 or -1 = off"),
      key("sampling.min_p", checked(number(s, &P::min_p, "0 to 1")), "0",
          "leave out what is less likely than min_p times the likeliest; 0 = off"),
      key("sampling.repetition_penalty", checked(number(s, &P::repetition_penalty, "above 0")), "1",
          "divides positive and multiplies negative logits of tokens of prompt and output"),
      key("sampling.presence_penalty", checked(number(s, &P::presence_penalty, "-2 to 2")), "0",
          "subtracted from the logit of every token of the output"),
      key("sampling.frequency_penalty", checked(number(s, &P::frequency_penalty, "-2 to 2")), "0",
          "subtracted once for each time that the token is in the output"),
      key("sampling.logit_bias",
          checked({"map from token id to number, -100 to 100",
                   put(s, &P::logit_bias, read_logit_bias)}),
          "{}", "added to the logits of these tokens"),
      key("sampling.stop", checked(strings(s, &P::stop)), "[]",
          "texts that end the output; they are not part of it"),
      key("sampling.stop_token_ids",
          checked({"list of token ids", put(s, &P::stop_token_ids, read_token_ids)}), "[]",
          "tokens that end the output, besides the model's own end tokens"),
      key("sampling.include_stop_str_in_output", boolean(s, &P::include_stop_str_in_output),
          "false", "keep the text of `stop` at the end of the output"),
      key("sampling.ignore_eos", boolean(s, &P::ignore_eos), "false",
          "go on after the model's end tokens"),
      key("sampling.min_tokens", checked(integer(s, &P::min_tokens, 0, kInt32Max)), "0",
          "no end token and no stop id before so many tokens"),
      key("sampling.seed", seed(s, &P::seed), "0",
          "the same seed gives the same output, whatever else runs"),
  };
}

std::vector<ConfigKey> gateway_keys() {
  constexpr auto s = &Deployment::gateway;
  using G = GatewayDeployment;
  return {
      key("gateway.host", text(s, &G::host), "127.0.0.1",
          "the address that `serve` listens at; 0.0.0.0 = all of this machine"),
      key("gateway.port", integer(s, &G::port, 0, 65535), "8000", "its port; 0 = any that is free"),
      path_key("gateway.api_keys_file", text(s, &G::api_keys_file), "none",
               "a file of keys, one per line, of which a client must bring one"),
      key("gateway.max_body", size(s, &G::max_body), "64MiB", "largest body of a request"),
      key("gateway.max_connections", integer(s, &G::max_connections, 1, 1 << 20), "4096",
          "connections at a time; beyond them 503"),
      key("gateway.max_choices", integer(s, &G::max_choices, 1, 65536), "128",
          "most choices (n) of a request"),
      key("gateway.request_timeout", duration(s, &G::request_timeout_ms), "0ms",
          "longest time of a request; 0ms = no limit"),
      key("gateway.idle_timeout", duration(s, &G::idle_timeout_ms), "75s",
          "how long a connection may wait for its next request"),
      key("gateway.write_timeout", duration(s, &G::write_timeout_ms), "1m",
          "a client that takes nothing for so long is given up"),
      key("gateway.io_threads", integer(s, &G::io_threads, 1, 64), "1",
          "threads that talk to clients"),
      key("gateway.cors_origins", strings(s, &G::cors_origins), "[]",
          "origins of web pages that may call; \"*\" = all"),
  };
}

std::vector<ConfigKey> all_keys() {
  std::vector<ConfigKey> all = {
      key("version", version_one(), "required", "the version of this schema")};
  for (auto* keys : {&model_keys, &engine_keys, &generate_keys, &sampling_keys, &gateway_keys}) {
    for (ConfigKey& k : keys()) all.push_back(std::move(k));
  }
  all.push_back(key("logging.level",
                    choice<LoggingOptions, LogLevel>(&Deployment::logging, &LoggingOptions::level,
                                                     {{"info", LogLevel::kInfo},
                                                      {"warning", LogLevel::kWarning},
                                                      {"error", LogLevel::kError}}),
                    "info", "what goes to stderr"));
  return all;
}

}  // namespace

std::span<const ConfigKey> config_schema() {
  static const std::vector<ConfigKey> keys = all_keys();
  return keys;
}

const ConfigKey* find_config_key(std::string_view path) {
  for (const ConfigKey& key : config_schema()) {
    if (key.path == path) return &key;
  }
  return nullptr;
}

std::string config_table() {
  std::string table;
  for (const ConfigKey& key : config_schema())
    table +=
        fmt::format("| `{}` | {} | {} | {} |\n", key.path, key.type, key.fallback, key.meaning);
  return table;
}

}  // namespace trireme
