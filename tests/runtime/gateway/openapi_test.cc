// The OpenAPI document against what it describes: the routes, the parsers with values at and beyond
// the end of each range, and real answers. Schemas are checked by a small reading of JSON Schema:
// kinds, required members, references, alternatives, what may not be empty.
#include "runtime/gateway/openapi.h"

#include <cmath>
#include <set>

#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "runtime/gateway/field_reader.h"
#include "tests/support/gateway_harness.h"
#include "tests/support/scripted_gateway.h"

namespace trireme::test {
namespace {

JsonObject object_of(std::string_view text) {
  Result<Json> json = parse_json(text);
  CHECK(json.ok() && json->is_object()) << text;
  return json->as_object();
}

const Json& resolve(const JsonObject& document, const Json& schema) {
  const Json* reference = find(schema, "$ref");
  if (reference == nullptr) return schema;
  const std::string name(reference->as_string());
  constexpr std::string_view kPrefix = "#/components/schemas/";
  CHECK(name.starts_with(kPrefix)) << name;
  return document.at("components").at("schemas").at(name.substr(kPrefix.size()));
}

bool is_kind(const Json& value, std::string_view kind) {
  if (kind == "number") return value.is_number();
  if (kind == "integer") return integer_of(value).has_value();
  return json_kind(value) == kind;
}

// "" where `value` is what the schema says, else what is not, and where.
std::string wrong(const JsonObject& document, const Json& said, const Json& value,
                  const std::string& where = "answer") {
  const Json& schema = resolve(document, said);
  if (const Json* any = find(schema, "anyOf")) {
    std::string last;
    for (const Json& one : any->as_array()) {
      last = wrong(document, one, value, where);
      if (last.empty()) break;
    }
    if (!last.empty()) return last;
  }
  if (const Json* kind = find(schema, "type")) {
    bool fits = false;
    if (kind->is_string()) fits = is_kind(value, kind->as_string());
    if (kind->is_array()) {
      for (const Json& k : kind->as_array()) fits = fits || is_kind(value, k.as_string());
    }
    if (!fits) return where + " is no " + boost::json::serialize(*kind);
  }
  if (const Json* constant = find(schema, "const"); constant != nullptr && *constant != value)
    return where + " is not " + boost::json::serialize(*constant);
  if (const Json* values = find(schema, "enum")) {
    bool known = false;
    for (const Json& v : values->as_array()) known = known || v == value;
    if (!known) return where + " is none of " + boost::json::serialize(*values);
  }
  if (value.is_array()) {
    const Json* items = find(schema, "items");
    const Json* least = find(schema, "minItems");
    if (least != nullptr && value.as_array().size() < least->to_number<size_t>())
      return where + " has too few entries";
    for (size_t i = 0; items != nullptr && i < value.as_array().size(); ++i) {
      std::string entry =
          wrong(document, *items, value.as_array()[i], fmt::format("{}[{}]", where, i));
      if (!entry.empty()) return entry;
    }
  }
  if (value.is_string() && find(schema, "minLength") != nullptr && value.as_string().empty())
    return where + " is empty";
  if (!value.is_object()) return "";
  if (const Json* required = find(schema, "required")) {
    for (const Json& name : required->as_array()) {
      if (!value.as_object().contains(name.as_string()))
        return where + " has no " + std::string(name.as_string());
    }
  }
  const Json* properties = find(schema, "properties");
  for (const auto& [name, member] : value.as_object()) {
    const Json* property =
        properties == nullptr ? nullptr : properties->as_object().if_contains(name);
    if (property == nullptr) continue;
    std::string inner = wrong(document, *property, member, where + "." + std::string(name));
    if (!inner.empty()) return inner;
  }
  return "";
}

TEST(OpenApi, EveryReferenceIsThere) {
  const JsonObject document =
      openapi_document({.version = "1", .model_names = {"demo"}, .limits = {}});
  std::vector<const Json*> rest;
  for (const auto& [key, value] : document) rest.push_back(&value);
  size_t references = 0;
  while (!rest.empty()) {
    const Json& value = *rest.back();
    rest.pop_back();
    if (find(value, "$ref") != nullptr) {
      ++references;
      EXPECT_TRUE(resolve(document, value).is_object());
    }
    if (value.is_object()) {
      for (const auto& [key, member] : value.as_object()) rest.push_back(&member);
    } else if (value.is_array()) {
      for (const Json& entry : value.as_array()) rest.push_back(&entry);
    }
  }
  EXPECT_GT(references, 30u);
}

// Each route is a path with its method, and each path a route; but for the copies without /v1 and
// the document itself.
TEST(OpenApi, ItsPathsAreTheRoutes) {
  GatewayHarness server(gateway_harness());
  const HttpReply reply = server.get("/openapi.json");
  ASSERT_EQ(reply.status, 200);
  const JsonObject document = object_of(reply.body);
  std::set<std::string> documented, routed, all;
  for (const auto& [path, methods] : document.at("paths").as_object()) {
    for (const auto& [method, operation] : methods.as_object())
      documented.insert(fmt::format("{} {}", std::string_view(method), std::string_view(path)));
  }
  const HttpRoutes routes = server.gateway().routes();
  for (const HttpRoute& route : routes.all()) all.insert(route.path);
  for (const HttpRoute& route : routes.all()) {
    if (all.contains("/v1" + route.path) || route.path == "/openapi.json") continue;
    std::string path = route.path;
    if (path.ends_with('*')) path.replace(path.size() - 1, 1, "{model}");
    routed.insert((route.method == "GET" ? "get " : "post ") + path);
  }
  EXPECT_EQ(documented, routed);
}

// The error that the parser has for one field of an otherwise good request; "" for none.
std::string refused(bool chat, const std::string& field, Json value) {
  JsonObject body = chat ? object_of(R"({"messages": [{"role": "user", "content": "a"}]})")
                         : object_of(R"({"prompt": "a"})");
  body[field] = std::move(value);
  // What some fields ask of others.
  if (field == "best_of") body["n"] = body[field];
  if (field == "min_tokens") body["max_tokens"] = INT32_MAX;
  if (field == "top_logprobs") body["logprobs"] = true;
  if (field == "stream_options") body["stream"] = true;
  ParsedCall parsed = chat ? parse_chat_call(body, {}, {}) : parse_completion_call(body, {}, {});
  const auto* error = std::get_if<ApiError>(&parsed);
  if (error == nullptr) return "";
  // best_of and n are out of their range together.
  EXPECT_TRUE(error->param == field || error->param == "n") << field << ": " << error->message;
  return error->message;
}

TEST(OpenApi, RangesAreTheParsers) {
  const JsonObject document =
      openapi_document({.version = "1", .model_names = {"demo"}, .limits = {}});
  for (const bool chat : {false, true}) {
    const Json& schema = document.at("components")
                             .at("schemas")
                             .at(chat ? "ChatCompletionRequest" : "CompletionRequest");
    size_t ranges = 0;
    for (const auto& [key, field] : schema.at("properties").as_object()) {
      const std::string name(key);
      SCOPED_TRACE(name);
      const Json* kinds = find(field, "type");
      const bool whole =
          kinds != nullptr && boost::json::serialize(*kinds).find("integer") != std::string::npos;
      for (const char* word : {"minimum", "maximum", "exclusiveMinimum"}) {
        const Json* bound = find(field, word);
        if (bound == nullptr) continue;
        ++ranges;
        const bool low = std::string_view(word) != "maximum";
        const bool inside = std::string_view(word) != "exclusiveMinimum";
        // 3.4e38 stands for the largest float.
        if (bound->is_double() && bound->as_double() > 1e38) {
          EXPECT_EQ(refused(chat, name, *bound), "");
          continue;
        }
        EXPECT_EQ(refused(chat, name, *bound).empty(), inside);
        if (whole) {
          const int64_t limit = *integer_of(*bound);
          if (limit == INT64_MIN || limit == INT64_MAX) continue;
          EXPECT_NE(refused(chat, name, low ? limit - 1 : limit + 1), "");
        } else {
          const double limit = bound->to_number<double>();
          EXPECT_NE(refused(chat, name, low ? limit - 1e-3 : limit + 1e-3), "");
          EXPECT_EQ(refused(chat, name, low ? limit + 1e-3 : limit - 1e-3), "");
        }
      }
      // Null is absent; of another kind is refused, where the kind is said.
      if (name != "prompt" && name != "messages") {
        EXPECT_EQ(refused(chat, name, nullptr), "");
        EXPECT_EQ(wrong(document, field, nullptr), "");
      }
      if (kinds == nullptr || name == "user") continue;
      const bool text = boost::json::serialize(*kinds).find("string") != std::string::npos;
      EXPECT_NE(refused(chat, name, text ? Json(5) : Json("x")), "");
    }
    EXPECT_GT(ranges, 25u);
  }
}

// Bodies that are put together from all values of each member, "" for an absent one, and whether
// the gateway takes them: the document says the same.
void expect_same_verdicts(
    std::string_view path, std::string_view schema, const std::string& format,
    const std::vector<std::pair<std::string, std::vector<std::string>>>& members) {
  const JsonObject document =
      openapi_document({.version = "1", .model_names = {"demo"}, .limits = {}});
  const Json& said = document.at("components").at("schemas").at(schema);
  ScriptedGateway gateway;
  size_t bodies = 1, taken = 0;
  for (const auto& [name, values] : members) bodies *= values.size();
  for (size_t i = 0; i < bodies; ++i) {
    std::string object;
    size_t rest = i;
    for (const auto& [name, values] : members) {
      const std::string& value = values[rest % values.size()];
      rest /= values.size();
      if (value.empty()) continue;
      object += fmt::format("{}\"{}\": {}", object.empty() ? "" : ", ", name, value);
    }
    const std::string body = fmt::format(fmt::runtime(format), object);
    const FakeExchange& exchange = gateway.ask(path, body);
    const bool fits = wrong(document, said, object_of(body)).empty();
    EXPECT_EQ(exchange.status() == 200, fits) << body << " " << exchange.body();
    taken += fits;
  }
  EXPECT_GT(taken, 0u);
  EXPECT_LT(taken, bodies);
}

TEST(OpenApi, MessagesAreWhatTheParserTakes) {
  expect_same_verdicts(
      "/tokenize", "TokenizeRequest", R"({{"messages": [{{{}}}]}})",
      {{"role",
        {"", "null", "5", R"("robot")", R"("system")", R"("developer")", R"("user")",
         R"("assistant")", R"("tool")", R"("function")"}},
       {"content",
        {"", "null", "5", R"("a")", "[]", R"(["a"])", R"([{"type": "text", "text": "a"}])",
         R"([{"type": "text"}])", R"([{"type": "image_url", "text": "a"}])"}},
       {"name", {"", "null", "5", R"("a")"}},
       {"tool_calls", {"", "null", "5", "[]"}},
       {"tool_call_id", {"", "[]", R"("a")"}}});
}

TEST(OpenApi, TokenizeRequestsAreWhatTheParserTakes) {
  const std::string message = R"([{"role": "user", "content": "a"}])";
  expect_same_verdicts("/tokenize", "TokenizeRequest", "{{{}}}",
                       {{"prompt", {"", "null", "5", R"("a")"}},
                        {"content", {"", "null", "5", R"("a")"}},
                        {"messages", {"", "null", "5", "[]", message}},
                        {"add_special_tokens", {"", "null", "true", "5"}},
                        {"add_special", {"", "null", "true", "5"}},
                        {"temperature", {"", R"("hot")"}},
                        {"model", {"", "null", R"("")", R"("demo")", R"("other")", "5"}},
                        {"return_token_strs", {"", "5"}}});
}

TEST(OpenApi, ToolsAreWhatTheParserTakes) {
  const std::string format =
      R"({{"messages": [{{"role": "user", "content": "a"}}], "tools": [{{{}}}]}})";
  expect_same_verdicts("/tokenize", "TokenizeRequest", format,
                       {{"type", {"", "null", "5", R"("function")", R"("custom")"}},
                        {"function",
                         {"", "null", "5", "{}", R"({"name": ""})", R"({"name": "a"})",
                          R"({"name": null})", R"({"name": "a", "description": 5})",
                          R"({"name": "a", "parameters": {}, "description": "b"})",
                          R"({"name": "a", "parameters": []})"}}});
}

// Answers with everything that can be asked for are what the document says.
TEST(OpenApi, AnswersAreWhatItSays) {
  GatewayHarness server(gateway_harness());
  const JsonObject document =
      openapi_document({.version = "1", .model_names = {"demo"}, .limits = {}});
  const auto check = [&](std::string_view schema, const HttpReply& reply, std::string_view body) {
    JsonObject reference;
    reference["$ref"] = fmt::format("#/components/schemas/{}", schema);
    EXPECT_EQ(wrong(document, reference, object_of(body)), "") << schema << " " << reply.status;
  };
  constexpr std::string_view kAll =
      R"("max_tokens": 6, "temperature": 0.5, "n": 2, "return_token_ids": true,
         "timings_per_token": true)";
  const std::string completion =
      fmt::format(R"({{"prompt": "And God", "logprobs": 2, "echo": true, {})", kAll);
  const std::string chat = fmt::format(
      R"({{"messages": [{{"role": "user", "content": "Who?"}}], "logprobs": true,
           "top_logprobs": 2, {})",
      kAll);
  for (const bool is_chat : {false, true}) {
    const std::string path = is_chat ? "/v1/chat/completions" : "/v1/completions";
    const std::string& body = is_chat ? chat : completion;
    const HttpReply whole = server.post(path, body + R"(, "prompt_logprobs": 1})");
    ASSERT_EQ(whole.status, 200) << whole.body;
    check(is_chat ? "ChatCompletion" : "Completion", whole, whole.body);
    const Json answer = object_of(whole.body);
    EXPECT_TRUE(find(answer, "timings") != nullptr);
    const Json& timings = answer.at("timings");
    EXPECT_EQ(timings.at("predicted_n"), answer.at("usage").at("completion_tokens"));
    EXPECT_EQ(timings.at("prompt_n").to_number<int>() + timings.at("cache_n").to_number<int>(),
              answer.at("usage").at("prompt_tokens").to_number<int>());
    EXPECT_GT(timings.at("predicted_ms").to_number<double>(), 0.0);
    const HttpReply stream = server.post(path, body + R"(, "stream": true,
        "stream_options": {"include_usage": true, "continuous_usage_stats": true}})");
    ASSERT_EQ(stream.status, 200) << stream.body;
    const std::vector<std::string> events = sse_events(stream.body);
    ASSERT_GE(events.size(), 3u);  // text, of as many steps as came at once; usage; the end
    EXPECT_EQ(events.back(), "[DONE]");
    for (const std::string& event : events) {
      if (event != "[DONE]")
        check(is_chat ? "ChatCompletionChunk" : "CompletionChunk", stream, event);
    }
    const HttpReply error = server.post(path, "{}");
    check("Error", error, error.body);
  }
  for (const auto& [path, schema] :
       std::vector<std::pair<std::string, std::string>>{{"/v1/models", "ModelList"},
                                                        {"/v1/models/demo", "Model"},
                                                        {"/health", "Health"},
                                                        {"/version", "Version"},
                                                        {"/tokenizer_info", "TokenizerInfo"}}) {
    const HttpReply reply = server.get(path);
    check(schema, reply, reply.body);
  }
  const HttpReply tokens =
      server.post("/tokenize", R"({"prompt": "a", "return_token_strs": true})");
  check("Tokenized", tokens, tokens.body);
  const HttpReply text = server.post("/detokenize", R"({"tokens": [1]})");
  check("Detokenized", text, text.body);
}

}  // namespace
}  // namespace trireme::test
