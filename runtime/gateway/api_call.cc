#include "runtime/gateway/api_call.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <set>

#include <fmt/format.h>

#include "runtime/gateway/constraint_fields.h"
#include "runtime/gateway/field_reader.h"

namespace trireme {
namespace {

constexpr int64_t kAny = INT64_MAX;
constexpr size_t kRequestIdBytesMax = 256;
constexpr size_t kToolsMax = 1024;

// {"<id>": bias}
void read_logit_bias(FieldReader& in, SamplingParams& params) {
  const JsonObject* map = in.object("logit_bias");
  if (map == nullptr) return;
  params.logit_bias.clear();
  for (const auto& [key, value] : *map) {
    int32_t id = -1;
    const auto end = key.data() + key.size();
    const auto [stop, error] = std::from_chars(key.data(), end, id);
    if (error != std::errc() || stop != end || id < 0)
      return in.fail("logit_bias", fmt::format("names '{}': its keys are token ids",
                                               std::string_view(key).substr(0, 40)));
    if (!value.is_number())
      return in.fail("logit_bias", fmt::format("of token {} is no number", id));
    params.logit_bias.emplace_back(id, static_cast<float>(value.to_number<double>()));
  }
}

void read_sampling(FieldReader& in, SamplingParams& p) {
  const double huge = std::numeric_limits<float>::max();
  p.temperature = static_cast<float>(in.number("temperature", p.temperature, 0, 2));
  p.top_p = static_cast<float>(in.number("top_p", p.top_p, 0, 1, /*above=*/true));
  p.top_k = static_cast<int32_t>(in.integer("top_k", p.top_k, -1, INT32_MAX));
  p.min_p = static_cast<float>(in.number("min_p", p.min_p, 0, 1));
  p.presence_penalty = static_cast<float>(in.number("presence_penalty", p.presence_penalty, -2, 2));
  p.frequency_penalty =
      static_cast<float>(in.number("frequency_penalty", p.frequency_penalty, -2, 2));
  const char* repetition = in.has("repetition_penalty") ? "repetition_penalty" : "repeat_penalty";
  p.repetition_penalty =
      static_cast<float>(in.number(repetition, p.repetition_penalty, 0, huge, /*above=*/true));
  read_logit_bias(in, p);
  if (in.has("stop")) p.stop = in.strings("stop", kStopsMax);
  std::erase_if(p.stop, [](const std::string& s) { return s.empty(); });
  if (in.has("stop_token_ids")) p.stop_token_ids = in.tokens("stop_token_ids", kStopsMax);
  if (in.has("allowed_token_ids")) {
    p.allowed_token_ids = in.tokens("allowed_token_ids", kAllowedTokensMax);
    if (p.allowed_token_ids.empty() && !in.error())
      in.fail("allowed_token_ids", "is empty: leave it out to allow all tokens");
  }
  p.include_stop_str_in_output =
      in.boolean("include_stop_str_in_output", p.include_stop_str_in_output);
  p.ignore_eos = in.boolean("ignore_eos", p.ignore_eos);
  p.min_tokens = static_cast<uint32_t>(in.integer("min_tokens", p.min_tokens, 0, INT32_MAX));
}

void read_stream(FieldReader& in, ApiCall& call) {
  call.stream = in.boolean("stream", false);
  const JsonObject* options = in.object("stream_options");
  if (options == nullptr) return;
  if (!call.stream) in.fail("stream_options", "is only for streams: set stream to true");
  FieldReader inner(*options, "stream_options");
  call.include_usage = inner.boolean("include_usage", false);
  call.continuous_usage = inner.boolean("continuous_usage_stats", false);
  in.adopt(inner);
}

// What both endpoints have.
void read_common(FieldReader& in, ApiCall& call, const SamplingParams& defaults,
                 const ApiLimits& limits) {
  call.model = in.string("model", "");
  call.base.params = defaults;
  SamplingParams& p = call.base.params;
  read_sampling(in, p);
  call.base.choices = static_cast<uint32_t>(in.integer("n", 1, 1, limits.choices_max));
  if (call.base.choices > 1 && p.temperature == 0.0f)
    in.fail("n", fmt::format("is {}: it must be 1 with temperature 0, which gives one answer only",
                             call.base.choices));
  if (in.has("bad_words")) call.bad_words = in.strings("bad_words", kBadWordsMax / 2);
  if (std::count(call.bad_words.begin(), call.bad_words.end(), "") > 0)
    in.fail("bad_words", "has an empty string: leave it out");
  call.seeded = in.has("seed");
  // Any 64-bit number is a seed; negative ones by their bits.
  p.seed = static_cast<uint64_t>(in.integer("seed", static_cast<int64_t>(p.seed), INT64_MIN, kAny));
  call.base.priority = static_cast<int32_t>(in.integer("priority", 0, -1000000, 1000000));
  call.base.prompt_logprobs =
      static_cast<int32_t>(in.integer("prompt_logprobs", -1, 0, limits.logprobs_max));
  call.base.cache_salt = in.string("cache_salt", "");
  if (call.base.cache_salt.size() > 1024) in.fail("cache_salt", "has more than 1024 bytes");
  call.request_id = in.string("request_id", "");
  if (call.request_id.size() > kRequestIdBytesMax)
    in.fail("request_id", fmt::format("has more than {} bytes", kRequestIdBytesMax));
  call.timings = in.boolean("timings_per_token", false);
  call.skip_special_tokens = in.boolean("skip_special_tokens", true);
  call.return_token_ids = in.boolean("return_token_ids", false);
  call.return_tokens_as_token_ids = in.boolean("return_tokens_as_token_ids", false);
  if (in.has("truncate_prompt_tokens")) {
    const int64_t n = in.integer("truncate_prompt_tokens", -1, -1, INT32_MAX);
    if (n == 0)
      in.fail("truncate_prompt_tokens", "is 0: it must be at least 1, or -1 for the most");
    call.truncate_prompt_tokens = n < 0 ? UINT32_MAX : static_cast<uint32_t>(n);
  }
  read_constraint(in, call.base.constraint, call.constraint_field);
  read_stream(in, call);
  if (call.stream && call.base.prompt_logprobs >= 0)
    in.fail("prompt_logprobs", "cannot be streamed: set stream to false");
}

void set_max_tokens(FieldReader& in, ApiCall& call, std::string_view name, int64_t min) {
  if (!in.has(name)) return;
  const int64_t n = in.integer(name, min, name == "n_predict" ? -1 : min, INT32_MAX);
  if (n < 0) return;  // llama-server's -1: no limit
  call.max_tokens = static_cast<uint32_t>(n);
}

void check_min_tokens(FieldReader& in, const ApiCall& call) {
  if (call.max_tokens.has_value() && call.base.params.min_tokens > *call.max_tokens)
    in.fail("min_tokens", fmt::format("is {}: it must not be above max_tokens, {}",
                                      call.base.params.min_tokens, *call.max_tokens));
}

ParsedCall finish(const FieldReader& in, ApiCall call) {
  if (in.error().has_value()) return *in.error();
  return call;
}

bool is_tokens(const JsonArray& list) {
  return !list.empty() && std::all_of(list.begin(), list.end(),
                                      [](const Json& v) { return integer_of(v).has_value(); });
}

void add_tokens(FieldReader& in, const JsonArray& list, ApiCall& call) {
  std::vector<int32_t> ids;
  for (const Json& entry : list) {
    const int64_t id = *integer_of(entry);
    if (id < 0 || id > INT32_MAX)
      return in.fail("prompt", fmt::format("has the token {}: ids are from 0", id));
    ids.push_back(static_cast<int32_t>(id));
  }
  call.prompts.emplace_back(std::move(ids));
}

void read_prompt(FieldReader& in, ApiCall& call, const ApiLimits& limits) {
  constexpr std::string_view kForms =
      "must be a string, a list of strings, a list of token ids or a list of such lists";
  const Json* prompt = in.find("prompt");
  if (prompt == nullptr)
    return in.fail("prompt", std::string(kForms), "missing_required_parameter");
  if (prompt->is_string()) {
    call.prompts.emplace_back(std::string(prompt->get_string()));
    return;
  }
  if (!prompt->is_array() || prompt->get_array().empty())
    return in.fail("prompt", std::string(kForms));
  const JsonArray& list = prompt->get_array();
  if (is_tokens(list)) return add_tokens(in, list, call);
  if (list.size() > limits.prompts_max)
    return in.fail("prompt", fmt::format("has {} entries: at most {} are allowed", list.size(),
                                         limits.prompts_max));
  for (const Json& entry : list) {
    if (entry.is_string()) {
      call.prompts.emplace_back(std::string(entry.get_string()));
    } else if (entry.is_array() && is_tokens(entry.get_array())) {
      add_tokens(in, entry.get_array(), call);
    } else {
      return in.fail("prompt", std::string(kForms));
    }
  }
}

void read_messages(FieldReader& in, ApiCall& call, const ApiLimits& limits) {
  const JsonArray* messages = in.array("messages", limits.messages_max);
  if (messages == nullptr || messages->empty())
    return in.fail("messages", "must be a list of at least one message",
                   "missing_required_parameter");
  static const std::set<std::string_view> kRoles = {"system",    "developer", "user",
                                                    "assistant", "tool",      "function"};
  for (size_t i = 0; i < messages->size(); ++i) {
    const Json& m = (*messages)[i];
    const std::string where = fmt::format("messages[{}]", i);
    if (!m.is_object()) return in.fail(where, "must be an object with a role and content");
    FieldReader message(m.get_object(), where);
    const std::string role = message.string("role", "");
    if (!message.error() && !kRoles.contains(role))
      message.fail("role",
                   fmt::format("is '{}': it must be system, developer, user, assistant or tool",
                               role.substr(0, 40)));
    const Json* content = message.find("content");
    if (content != nullptr && !content->is_string() && !content->is_array())
      message.fail("content", "must be a string or a list of parts");
    if (content == nullptr && role != "assistant" && role != "function")
      message.fail("content", "is missing: it must be a string or a list of parts");
    message.string("name", "");
    message.array("tool_calls", kToolsMax);
    message.string("tool_call_id", "");
    in.adopt(message);
    if (in.error()) return;
  }
  call.messages = *messages;
}

void read_tool(FieldReader& in, const Json& tool, const std::string& where) {
  constexpr std::string_view kForm =
      "must be {\"type\": \"function\", \"function\": {\"name\": ...}}";
  if (!tool.is_object()) return in.fail(where, std::string(kForm));
  FieldReader outer(tool.get_object(), where);
  outer.choice("type", "function", {"function"});
  if (const JsonObject* function = outer.object("function")) {
    FieldReader inner(*function, where + ".function");
    if (inner.string("name", "").empty()) inner.fail("name", "must be the name of a function");
    inner.string("description", "");
    inner.object("parameters");
    outer.adopt(inner);
  } else if (!outer.error()) {
    in.fail(where, std::string(kForm));
  }
  in.adopt(outer);
}

void read_tools(FieldReader& in, ApiCall& call) {
  if (const JsonArray* tools = in.array("tools", kToolsMax)) {
    for (size_t i = 0; i < tools->size(); ++i)
      read_tool(in, (*tools)[i], fmt::format("tools[{}]", i));
    if (in.error()) return;
    call.tools = *tools;
  }
  const Json* choice = in.find("tool_choice");
  call.tool_choice.kind = call.tools.empty() ? ToolChoice::Kind::kNone : ToolChoice::Kind::kAuto;
  if (choice == nullptr) return;
  constexpr std::string_view kForms =
      "must be 'none', 'auto', 'required' or {\"type\": \"function\", \"function\": {\"name\": "
      "...}}";
  if (choice->is_string()) {
    const std::string_view word = choice->get_string();
    if (word == "none") {
      call.tool_choice.kind = ToolChoice::Kind::kNone;
    } else if (word == "required") {
      call.tool_choice.kind = ToolChoice::Kind::kRequired;
    } else if (word != "auto") {
      return in.fail("tool_choice", std::string(kForms));
    }
    if (word != "none" && call.tools.empty()) in.fail("tool_choice", "needs tools");
    return;
  }
  const JsonObject* function =
      choice->is_object() ? FieldReader(choice->get_object(), "").object("function") : nullptr;
  const Json* name = function == nullptr ? nullptr : FieldReader(*function, "").find("name");
  if (name == nullptr || !name->is_string()) return in.fail("tool_choice", std::string(kForms));
  FieldReader chosen(choice->get_object(), "tool_choice");
  chosen.choice("type", "function", {"function"});
  in.adopt(chosen);
  call.tool_choice = {ToolChoice::Kind::kNamed, std::string(name->get_string())};
  const bool known = std::any_of(call.tools.begin(), call.tools.end(), [&](const Json& tool) {
    return tool.at("function").at("name").get_string() == name->get_string();
  });
  if (!known)
    in.fail("tool_choice", fmt::format("names the tool '{}', which is not in tools",
                                       call.tool_choice.name.substr(0, 100)));
}

// Where a call is a must, the output is a list of calls by its form.
void require_tools(FieldReader& in, ApiCall& call) {
  const ToolChoice& choice = call.tool_choice;
  const bool named = choice.kind == ToolChoice::Kind::kNamed;
  if (!named && choice.kind != ToolChoice::Kind::kRequired) return;
  if (call.base.constraint.kind != ConstraintSpec::Kind::kNone)
    return in.fail("tool_choice",
                   "asks for a tool call, and another field for another form of the output: keep "
                   "one");
  const auto name = named ? std::optional(choice.name) : std::nullopt;
  call.tool_format = ToolFormat::kList;
  call.constraint_field = "tools";
  call.base.constraint = {ConstraintSpec::Kind::kJsonSchema,
                          tool_calls_schema(call.tools, name, named || !call.parallel_tool_calls)};
}

// What the template sees beside the messages. A template of the client's own would be code.
void read_template_fields(FieldReader& in, ApiCall& call) {
  if (const JsonObject* kwargs = in.object("chat_template_kwargs"))
    call.chat_template_kwargs = *kwargs;
  if (in.has("reasoning_effort"))
    call.chat_template_kwargs["reasoning_effort"] = in.string("reasoning_effort", "");
  constexpr size_t kDocumentsMax = 1024;
  if (const JsonArray* documents = in.array("documents", kDocumentsMax))
    call.chat_template_kwargs["documents"] = *documents;
  if (in.has("chat_template"))
    in.fail("chat_template", "is the server's to say: leave it out", "unsupported_parameter");
}

}  // namespace

std::variant<JsonObject, ApiError> parse_body(std::string_view text) {
  Result<Json> body = parse_json(text, {.depth_max = 64});
  if (!body.ok())
    return api_error(400, "invalid_json", "the body is not JSON: " + body.status().message());
  if (!body->is_object())
    return api_error(400, "invalid_json",
                     fmt::format("the body is JSON, but {}, not an object", json_kind(*body)));
  return std::move(body->as_object());
}

void set_tool_format(ApiCall& call, std::optional<ToolFormat> format) {
  if (!call.chat || call.tool_choice.kind != ToolChoice::Kind::kAuto || call.tool_format) return;
  if (!format.has_value()) return;
  call.tool_format = format;
  // Mistral's tag is a special token.
  if (*format == ToolFormat::kMistral) call.skip_special_tokens = false;
}

ParsedCall parse_completion_call(const JsonObject& body, const SamplingParams& defaults,
                                 const ApiLimits& limits) {
  FieldReader in(body, "");
  ApiCall call;
  read_prompt(in, call, limits);
  read_common(in, call, defaults, limits);
  call.max_tokens = 16;
  set_max_tokens(in, call, in.has("max_tokens") ? "max_tokens" : "n_predict", 0);
  call.echo = in.boolean("echo", false);
  call.add_special_tokens = in.boolean("add_special_tokens", true);
  if (in.has("logprobs")) {
    call.base.params.logprobs =
        static_cast<int32_t>(in.integer("logprobs", 0, 0, limits.logprobs_max));
    call.logprobs = true;
    if (call.echo && call.base.prompt_logprobs < 0)
      call.base.prompt_logprobs = call.base.params.logprobs;
  }
  const int64_t best_of = in.integer("best_of", call.base.choices, 1, limits.choices_max);
  if (best_of != call.base.choices)
    in.fail("best_of", fmt::format("is {}: it must equal n, {}", best_of, call.base.choices),
            "unsupported_parameter");
  if (const Json* suffix = in.find("suffix"); suffix != nullptr)
    in.fail("suffix", "is not supported: leave it out", "unsupported_parameter");
  if (call.max_tokens == 0u) {
    call.base.score_only = true;
    call.base.params.min_tokens = 0;
    if (call.base.choices > 1) in.fail("n", "must be 1 where max_tokens is 0");
  }
  check_min_tokens(in, call);
  return finish(in, std::move(call));
}

ParsedCall parse_chat_call(const JsonObject& body, const SamplingParams& defaults,
                           const ApiLimits& limits) {
  FieldReader in(body, "");
  ApiCall call;
  call.chat = true;
  read_messages(in, call, limits);
  read_common(in, call, defaults, limits);
  set_max_tokens(in, call,
                 in.has("max_completion_tokens") ? "max_completion_tokens"
                 : in.has("max_tokens")          ? "max_tokens"
                                                 : "n_predict",
                 1);
  call.add_special_tokens = in.boolean("add_special_tokens", false);
  call.logprobs = in.boolean("logprobs", false);
  const int64_t top = in.integer("top_logprobs", 0, 0, limits.logprobs_max);
  if (in.has("top_logprobs") && top > 0 && !call.logprobs)
    in.fail("top_logprobs", "needs logprobs: set logprobs to true");
  if (call.logprobs) call.base.params.logprobs = static_cast<int32_t>(top);
  read_tools(in, call);
  call.parallel_tool_calls = in.boolean("parallel_tool_calls", true);
  if (!in.error()) require_tools(in, call);
  call.add_generation_prompt = in.boolean("add_generation_prompt", true);
  call.continue_final_message = in.boolean("continue_final_message", false);
  if (call.continue_final_message && in.has("add_generation_prompt") && call.add_generation_prompt)
    in.fail("continue_final_message", "and add_generation_prompt exclude each other: keep one");
  if (call.continue_final_message) call.add_generation_prompt = false;
  read_template_fields(in, call);
  check_min_tokens(in, call);
  return finish(in, std::move(call));
}

}  // namespace trireme
