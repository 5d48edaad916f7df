#include "runtime/gateway/openapi.h"

#include <array>

#include <fmt/format.h>

namespace trireme {
namespace {

struct Operation {
  std::string_view method, path, name, summary;
  std::string_view request;  // schema of the body; "": it has none
  std::string_view answer;   // schema of the answer; "": text
  std::string_view chunk;    // schema of an event, where it can be streamed
};

constexpr std::array<Operation, 11> kOperations = {{
    {"post", "/v1/completions", "createCompletion", "Continue prompts", "CompletionRequest",
     "Completion", "CompletionChunk"},
    {"post", "/v1/chat/completions", "createChatCompletion", "Answer a chat",
     "ChatCompletionRequest", "ChatCompletion", "ChatCompletionChunk"},
    {"get", "/v1/models", "listModels", "The models that are served", "", "ModelList", ""},
    {"get", "/v1/models/{model}", "retrieveModel", "One of them", "", "Model", ""},
    {"post", "/tokenize", "tokenize", "Text or a chat to token ids", "TokenizeRequest", "Tokenized",
     ""},
    {"post", "/detokenize", "detokenize", "Token ids to text", "DetokenizeRequest", "Detokenized",
     ""},
    {"get", "/tokenizer_info", "tokenizerInfo", "Special tokens and the chat template", "",
     "TokenizerInfo", ""},
    {"post", "/reset_prefix_cache", "resetPrefixCache", "Forget all cached prefixes", "", "Health",
     ""},
    {"get", "/health", "health", "Whether the engine answers", "", "Health", ""},
    {"get", "/version", "version", "Which version this is", "", "Version", ""},
    {"get", "/metrics", "metrics", "For Prometheus", "", "", ""},
}};

JsonObject reference(std::string_view schema) {
  JsonObject object;
  object["$ref"] = fmt::format("#/components/schemas/{}", schema);
  return object;
}

JsonObject content(std::string_view type, JsonObject schema) {
  JsonObject media, object;
  media["schema"] = std::move(schema);
  object[type] = std::move(media);
  return object;
}

JsonObject response(std::string_view description, JsonObject content) {
  JsonObject object;
  object["description"] = description;
  object["content"] = std::move(content);
  return object;
}

// Each event of a stream; the last is [DONE].
JsonObject event_of(std::string_view chunk) {
  JsonObject data, properties, event;
  data["type"] = "string";
  data["description"] = "An object of the schema, one with an error, or [DONE].";
  data["contentMediaType"] = "application/json";
  data["contentSchema"] = reference(chunk);
  properties["data"] = std::move(data);
  event["type"] = "object";
  event["required"] = JsonArray{"data"};
  event["properties"] = std::move(properties);
  return event;
}

JsonObject success(const Operation& o) {
  if (o.answer.empty())
    return response("Text format 0.0.4", content("text/plain", JsonObject{{"type", "string"}}));
  JsonObject forms = content("application/json", reference(o.answer));
  std::string description(o.summary);
  if (!o.chunk.empty()) {
    description = fmt::format("The answer, or with stream events of {}", o.chunk);
    JsonObject events = content("text/event-stream", event_of(o.chunk));
    forms["text/event-stream"] = events["text/event-stream"];
  }
  return response(description, std::move(forms));
}

JsonObject operation_object(const Operation& o) {
  JsonObject object;
  object["operationId"] = o.name;
  object["summary"] = o.summary;
  if (!o.request.empty()) {
    JsonObject body;
    body["required"] = true;
    body["content"] = content("application/json", reference(o.request));
    object["requestBody"] = std::move(body);
  }
  if (o.path.find("{model}") != std::string_view::npos) {
    JsonObject parameter;
    parameter["name"] = "model";
    parameter["in"] = "path";
    parameter["required"] = true;
    parameter["schema"] = JsonObject{{"type", "string"}};
    object["parameters"] = JsonArray{std::move(parameter)};
  }
  JsonObject responses;
  responses["200"] = success(o);
  responses["default"] = response("What is wrong", content("application/json", reference("Error")));
  object["responses"] = std::move(responses);
  return object;
}

// Keys are needed where the server has some.
JsonObject bearer() {
  JsonObject scheme, schemes;
  scheme["type"] = "http";
  scheme["scheme"] = "bearer";
  schemes["bearer"] = std::move(scheme);
  return schemes;
}

}  // namespace

JsonObject openapi_document(const OpenApiOptions& options) {
  JsonObject document, info, paths, components;
  info["title"] = "Trireme";
  info["version"] = options.version;
  info["description"] =
      "OpenAI's API over a distributed engine. Fields that are not listed are ignored; null is "
      "absent. /completions, /chat/completions and /models are there without /v1, too.";
  for (const Operation& o : kOperations) {
    if (o.name == "metrics" && !options.metrics_page) continue;
    JsonObject path;
    path[o.method] = operation_object(o);
    paths[o.path] = std::move(path);
  }
  JsonObject schemas = openapi_requests(options);
  for (auto& [name, schema] : openapi_answers()) schemas[name] = std::move(schema);
  components["schemas"] = std::move(schemas);
  components["securitySchemes"] = bearer();
  document["openapi"] = "3.1.0";
  document["info"] = std::move(info);
  document["security"] = JsonArray{JsonObject(), JsonObject{{"bearer", JsonArray()}}};
  document["paths"] = std::move(paths);
  document["components"] = std::move(components);
  return document;
}

}  // namespace trireme
