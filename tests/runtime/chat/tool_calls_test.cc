// Tool calls in what models say: each family's form, whole and cut at every place, right and wrong;
// and the schema of outputs that have to be calls, read back.
#include "runtime/chat/tool_calls.h"

#include <random>

#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <gtest/gtest.h>

namespace trireme {
namespace {

// content | name(arguments) | name(arguments) ...
std::string told(const std::vector<ToolDelta>& deltas) {
  std::string content;
  std::vector<std::string> calls;
  for (const ToolDelta& delta : deltas) {
    content += delta.content;
    for (const ToolCallDelta& call : delta.calls) {
      if (!call.id.empty()) {
        EXPECT_EQ(call.index, calls.size());
        EXPECT_FALSE(call.name.empty());
        calls.push_back(call.id + ":" + call.name + "(");
      } else {
        EXPECT_TRUE(call.name.empty());
        EXPECT_EQ(call.index + 1, calls.size()) << "a fragment of a call that is not the last";
      }
      if (call.index < calls.size()) calls[call.index] += call.arguments;
    }
  }
  for (const std::string& call : calls) content += "|" + call + ")";
  return content;
}

ToolReaderOptions options_of(ToolFormat format, size_t calls_max = 128) {
  ToolReaderOptions options;
  options.format = format;
  options.names = {"f", "get_weather"};
  options.calls_max = calls_max;
  options.make_id = [next = 0]() mutable { return std::to_string(next++); };
  return options;
}

std::string read(const ToolReaderOptions& options, const std::vector<std::string_view>& pieces) {
  ToolCallReader reader(options);
  std::vector<ToolDelta> deltas;
  for (const std::string_view piece : pieces) deltas.push_back(reader.push(piece));
  deltas.push_back(reader.finish());
  return told(deltas);
}

// The whole at once, cut in two at every place, byte by byte: always the same.
std::string read_all_ways(ToolFormat format, std::string_view text, size_t calls_max = 128) {
  const ToolReaderOptions options = options_of(format, calls_max);
  const std::string whole = read(options, {text});
  std::vector<std::string_view> bytes;
  for (size_t i = 0; i < text.size(); ++i) {
    bytes.push_back(text.substr(i, 1));
    EXPECT_EQ(read(options, {text.substr(0, i), text.substr(i)}), whole) << "cut at " << i;
  }
  EXPECT_EQ(read(options, bytes), whole) << "byte by byte";
  return whole;
}

struct Case {
  ToolFormat format;
  std::string_view text, expected;
};

constexpr ToolFormat kHermes = ToolFormat::kHermes, kLlama3 = ToolFormat::kLlama3,
                     kMistral = ToolFormat::kMistral, kList = ToolFormat::kList;

TEST(ToolCalls, AreReadInEveryForm) {
  const std::vector<Case> cases = {
      // No calls: the text as it is.
      {kHermes, "", ""},
      {kHermes, " Hello,\n<b>you</b> <tool", " Hello,\n<b>you</b> <tool"},
      {kHermes, "a < b <tool_cal> \n", "a < b <tool_cal> \n"},
      {kHermes, R"({"name": "f", "arguments": {}})", R"({"name": "f", "arguments": {}})"},
      // Hermes.
      {kHermes,
       "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": [1, {\"b\": null}]}}\n</tool_call>",
       R"(|0:f({"a": [1, {"b": null}]}))"},
      {kHermes,
       "Let me see. \n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n<tool_call>\n"
       "{\"arguments\": {\"x\": \"</tool_call> } \\\" \\\\\"}, \"name\": \"g\"}\n</tool_call>\n",
       R"(Let me see.|0:f({})|1:g({"x": "</tool_call> } \" \\"}))"},
      {kHermes, "<tool_call>{\"name\": \"f\"}</tool_call> and so on ", "and so on|0:f({})"},
      {kHermes, "<tool_call>{\"name\": \"f\", \"arguments\": null}</tool_call>", "|0:f({})"},
      {kHermes, R"(<tool_call>{"name": "f", "arguments": "{\"a\": 1}"}</tool_call>)",
       R"(|0:f({"a": 1}))"},
      {kHermes,
       R"(<tool_call>{"type": "function", "id": 3, "x": {"name": "no"}, "name": "\u0066\u00fc",
                  "arguments": {"é": "日本"}})",
       "|0:fü({\"é\": \"日本\"})"},
      {kHermes, "<tool_call>{\"name\": \"f\", \"arguments\": {}}}</tool_call>", "|0:f({})"},
      {kHermes, "<tool_call>{\"name\": \"f\", \"arguments\": {}}<tool_call>{\"name\": \"g\"}",
       "|0:f({})|1:g({})"},
      // Cut by the end of the answer: before the call is known, and after.
      {kHermes, "<tool_call>{\"name\": \"f\", \"argu", "<tool_call>{\"name\": \"f\", \"argu"},
      {kHermes, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"b", "|0:f({\"a\": \"b)"},
      // No JSON: before the call is known, and after.
      {kHermes, "<tool_call>f(1)</tool_call>!", "<tool_call>f(1)</tool_call>!"},
      {kHermes, "<tool_call><tool_call>{\"name\": \"f\"}</tool_call>", "<tool_call>|0:f({})"},
      {kHermes, "<tool_call>{\"arguments\": {}}</tool_call>",
       "<tool_call>{\"arguments\": {}}</tool_call>"},
      {kHermes, "<tool_call>{\"name\": \"f\", \"name\": \"g\"}",
       "<tool_call>{\"name\": \"f\", \"name\": \"g\"}"},
      {kHermes, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": <1>]}</tool_call>ok",
       "ok|0:f({\"a\": <1>]})"},
      // Llama 3.
      {kLlama3, R"({"name": "f", "parameters": {"a": 1}})", R"(|0:f({"a": 1}))"},
      {kLlama3, "\n\n{\"type\": \"function\", \"name\": \"f\", \"parameters\": {}}", "|0:f({})"},
      {kLlama3,
       R"(<|python_tag|>{"name": "f", "parameters": {}}; {"name": "get_weather", "parameters": {"b": 2}})",
       R"(|0:f({})|1:get_weather({"b": 2}))"},
      {kLlama3, R"(Yes: {"name": "f", "parameters": {}})",
       R"(Yes: {"name": "f", "parameters": {}})"},
      {kLlama3, R"({"name": "Bob", "parameters": {}})", R"({"name": "Bob", "parameters": {}})"},
      {kLlama3, R"({"name": "f", "age": 3})", R"({"name": "f", "age": 3})"},
      {kLlama3, R"({"a": 1} {"name": "f", "parameters": {}})",
       R"({"a": 1} {"name": "f", "parameters": {}})"},
      {kLlama3, "<|python_tag|>print(1)", "<|python_tag|>print(1)"},
      // Mistral.
      {kMistral,
       R"([TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}}])",
       R"(|0:f({"a": 1})|1:g({}))"},
      {kMistral, R"(So. [TOOL_CALLS]f{"a": 1}[TOOL_CALLS]get_it[ARGS]{"b": "[TOOL_CALLS]"})",
       R"(So.|0:f({"a": 1})|1:get_it({"b": "[TOOL_CALLS]"}))"},
      {kMistral, "[TOOL_CALLS]f(x)", "[TOOL_CALLS]f(x)"},
      {kMistral, "[TOOL_CALLS]f[ARX]{}", "[TOOL_CALLS]f[ARX]{}"},
      {kMistral, "[TOOL", "[TOOL"},
      // What a schema made it write.
      {kList, R"([{"name": "f", "arguments": {"a": 1}},{"name":"g","arguments":{}}])",
       R"(|0:f({"a": 1})|1:g({}))"},
      {kList, R"([{"na)", ""},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.text);
    EXPECT_EQ(read_all_ways(c.format, c.text), c.expected);
  }
}

TEST(ToolCalls, NoMoreThanAskedFor) {
  const std::string_view text =
      R"([{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {"b": 2}}])";
  EXPECT_EQ(read_all_ways(kList, text, 1), R"(|0:f({"a": 1}))");
}

// Arguments go out while they are written; what may be a tag waits.
TEST(ToolCalls, StreamAsSoonAsTheyCan) {
  ToolCallReader reader(options_of(kHermes));
  EXPECT_EQ(reader.push("Hi <").content, "Hi");
  EXPECT_EQ(reader.push("b> <tool_").content, " <b>");
  EXPECT_EQ(told({reader.push("call>{\"name\": \"f\", ")}), "");
  EXPECT_EQ(told({reader.push("\"arguments\": {\"a")}), "|0:f({\"a)");
  const ToolDelta more = reader.push("bc\": 1");
  ASSERT_EQ(more.calls.size(), 1u);
  EXPECT_EQ(more.calls[0].arguments, "bc\": 1");
  EXPECT_EQ(reader.calls(), 1u);
}

// Words of the formats in any order: pieces never matter, nothing crashes, and without a call no
// byte is lost.
TEST(ToolCalls, NoTextIsTooStrange) {
  const std::vector<std::string_view> words = {"<tool_call>",
                                               "</tool_call>",
                                               "<|python_tag|>",
                                               "[TOOL_CALLS]",
                                               "[ARGS]",
                                               "{",
                                               "}",
                                               "[",
                                               "]",
                                               "\"name\"",
                                               "\"arguments\"",
                                               "\"parameters\"",
                                               ":",
                                               ",",
                                               "\"f\"",
                                               "\"\\\"",
                                               "f",
                                               " ",
                                               "\n",
                                               "1",
                                               "null",
                                               "{\"name\": \"f\", \"arguments\": {",
                                               "}}",
                                               "<",
                                               "é"};
  std::mt19937 random(7);
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (uint32_t n = random() % 14; n > 0; --n) text += words[random() % words.size()];
    for (const ToolFormat format : {kHermes, kLlama3, kMistral, kList}) {
      SCOPED_TRACE(fmt::format("{}: {}", static_cast<int>(format), text));
      const std::string made = read_all_ways(format, text);
      if (format != kList && made.find('|') == std::string::npos) {
        EXPECT_EQ(made, text);
      }
      if (HasFailure()) return;
    }
  }
}

TEST(ToolCalls, DepthAndNamesAreBounded) {
  const std::string deep = "<tool_call>{\"x\": " + std::string(100000, '[');
  EXPECT_EQ(read(options_of(kHermes), {deep}), deep);
  const std::string name = "<tool_call>{\"name\": \"" + std::string(100000, 'n') + "\"}";
  EXPECT_EQ(read(options_of(kHermes), {name}), name);
}

TEST(ToolCalls, TheFormIsToldByTheTemplate) {
  EXPECT_EQ(detect_tool_format("... within <tool_call></tool_call> XML tags"), kHermes);
  EXPECT_EQ(detect_tool_format("{{ '[TOOL_CALLS] [' }}"), kMistral);
  EXPECT_EQ(detect_tool_format("{{ '<|python_tag|>' }}"), kLlama3);
  EXPECT_EQ(detect_tool_format("<tool_call><function=name>"), std::nullopt);
  EXPECT_EQ(detect_tool_format("{{ message.content }}"), std::nullopt);
  EXPECT_EQ(*tool_format_named("hermes"), kHermes);
  EXPECT_EQ(*tool_format_named("llama3_json"), kLlama3);
  EXPECT_EQ(*tool_format_named("mistral"), kMistral);
  EXPECT_FALSE(tool_format_named("list").ok());
}

JsonArray tools(std::string_view text) {
  Result<Json> json = parse_json(text);
  EXPECT_TRUE(json.ok()) << json.status().message();
  return json->as_array();
}

TEST(ToolCalls, SchemasNameTheToolsAndMoveReferences) {
  const JsonArray two = tools(R"([
    {"type": "function", "function": {"name": "f", "parameters": {"type": "object",
      "properties": {"a": {"$ref": "#/$defs/n"}, "self": {"$ref": "#"}, "c": {"const": {"$ref": "#/x"}}},
      "$defs": {"n": {"type": "integer"}}}}},
    {"type": "function", "function": {"name": "g"}}])");
  const Result<Json> any = parse_json(tool_calls_schema(two, std::nullopt, false));
  ASSERT_TRUE(any.ok());
  EXPECT_EQ(any->at("type"), "array");
  EXPECT_EQ(any->at("minItems"), 1);
  EXPECT_EQ(any->as_object().count("maxItems"), 0u);
  EXPECT_EQ(any->at("items").at("anyOf").as_array().size(), 2u);
  const Json& f = any->at("$defs").at("tool0").at("properties");
  EXPECT_EQ(f.at("name").at("const"), "f");
  const Json& properties = f.at("arguments").at("properties");
  const std::string moved(properties.at("a").at("$ref").as_string());
  EXPECT_EQ(any->at_pointer(moved.substr(1)).at("type"), "integer") << moved;
  const std::string self(properties.at("self").at("$ref").as_string());
  EXPECT_EQ(any->at_pointer(self.substr(1)), f.at("arguments"));
  EXPECT_EQ(properties.at("c").at("const").at("$ref"), "#/x");
  const Result<Json> one = parse_json(tool_calls_schema(two, "g", true));
  ASSERT_TRUE(one.ok());
  EXPECT_EQ(one->at("maxItems"), 1);
  EXPECT_EQ(one->at("$defs").as_object().size(), 1u);
  EXPECT_EQ(one->at("$defs").at("tool1").at("properties").at("name").at("const"), "g");
}

}  // namespace
}  // namespace trireme
