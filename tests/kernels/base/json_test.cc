#include "kernels/base/json.h"

#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <random>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace trireme {
namespace {

std::string error_of(std::string_view text, const JsonLimits& limits = {}) {
  const Result<Json> value = parse_json(text, limits);
  EXPECT_FALSE(value.ok()) << text;
  if (value.ok()) return "";
  EXPECT_EQ(value.status().code(), StatusCode::kInvalidArgument);
  return value.status().message();
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST(Json, ReadsEveryKind) {
  const Result<Json> value = parse_json(
      R"( {"s": "a\n\u00e9\ud83d\ude00", "i": -7, "u": 18446744073709551615, "d": 2.5e-3,
           "t": true, "n": null, "a": [1, [], {}], "o": {"x": 1}} )");
  ASSERT_TRUE(value.ok()) << value.status().message();
  EXPECT_EQ(find(*value, "s")->as_string(), "a\n\xc3\xa9\xf0\x9f\x98\x80");
  EXPECT_EQ(find(*value, "i")->as_int64(), -7);
  EXPECT_EQ(find(*value, "u")->as_uint64(), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(find(*value, "d")->as_double(), 0.0025);
  EXPECT_TRUE(find(*value, "t")->as_bool());
  EXPECT_EQ(find(*value, "a")->as_array().size(), 3u);
  EXPECT_EQ(find(*find(*value, "o"), "x")->as_int64(), 1);
  const char* kinds[][2] = {{"s", "string"},  {"i", "integer"}, {"u", "integer"}, {"d", "number"},
                            {"t", "boolean"}, {"a", "array"},   {"o", "object"}};
  for (const auto& [key, kind] : kinds) EXPECT_EQ(json_kind(*find(*value, key)), kind);
  EXPECT_EQ(json_kind(value->as_object().at("n")), "null");
  EXPECT_EQ(json_kind(Json(uint64_t{7})), "integer");
}

TEST(Json, FindSkipsNullAbsentAndNotAnObject) {
  const Json value = parse_json(R"({"n": null, "a": [1]})").take();
  EXPECT_EQ(find(value, "n"), nullptr);
  EXPECT_EQ(find(value, "missing"), nullptr);
  EXPECT_EQ(find(*find(value, "a"), "x"), nullptr);
}

// The same key twice in one object is refused wherever it stands and however it is written; the
// same key in two objects is fine.
TEST(Json, DuplicateKeysAreRefused) {
  EXPECT_TRUE(contains(error_of(R"({"a": 1, "b": 2, "a": 3})"), "duplicate JSON key 'a'"));
  EXPECT_TRUE(contains(error_of(R"([{"x": {"k": 1, "k": 1}}])"), "duplicate JSON key 'k'"));
  EXPECT_TRUE(contains(error_of(R"({"key": 1, "k\u0065y": 2})"), "duplicate JSON key 'key'"));
  EXPECT_TRUE(contains(error_of(R"({"": 1, "": 2})"), "duplicate JSON key ''"));
  EXPECT_TRUE(contains(error_of("{\n  \"one\": 1,\n  \"one\": 2\n}"), "line 3 column"));
  EXPECT_TRUE(parse_json(R"({"a": {"a": {"a": 1}}, "b": {"a": 1}})").ok());
  EXPECT_TRUE(parse_json(R"([{"a": 1}, {"a": 1}])").ok());
  // After an inner object ends, the outer one still knows its keys.
  EXPECT_TRUE(contains(error_of(R"({"a": {"b": 1}, "a": 2})"), "duplicate JSON key 'a'"));
}

TEST(Json, ErrorsSayWhere) {
  EXPECT_TRUE(contains(error_of("{\"a\": 1,\n \"b\": x}"), "line 2 column 7"));
  EXPECT_TRUE(contains(error_of("?"), "line 1 column 1"));
  EXPECT_TRUE(contains(error_of("{} {}"), "extra text after the JSON value at line 1 column 4"));
  EXPECT_TRUE(contains(error_of("[1, 2"), "line 1 column 6"));
}

TEST(Json, OnlyRfc8259) {
  for (const char* text : {"",
                           " ",
                           "{",
                           "[1,]",
                           "{\"a\":1,}",
                           "{a: 1}",
                           "'a'",
                           "01",
                           "+1",
                           ".5",
                           "1.",
                           "NaN",
                           "Infinity",
                           "// c\n1",
                           "/* c */ 1",
                           "\"\n\"",
                           "\"\\x41\"",
                           "tru",
                           "[1 2]",
                           "\"unclosed",
                           "\"\xff\xfe\"",
                           "\"\xc0\xaf\"",
                           "\"\\ud800\""}) {
    error_of(text);
  }
}

TEST(Json, DepthIsBounded) {
  const auto nested = [](size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_TRUE(parse_json(nested(64)).ok());
  error_of(nested(65));
  EXPECT_TRUE(parse_json(nested(3), {.depth_max = 3}).ok());
  error_of(nested(4), {.depth_max = 3});
  error_of(std::string(1'000'000, '['));  // does not exhaust the stack
  error_of(R"({"a":{"a":{"a":{}}}})", {.depth_max = 3});
}

TEST(Json, LengthIsBounded) {
  EXPECT_TRUE(parse_json("[1,2,3]", {.bytes_max = 7}).ok());
  EXPECT_TRUE(
      contains(error_of("[1,2,3]", {.bytes_max = 6}), "7 bytes is longer than the limit of 6"));
}

TEST(Json, NumbersKeepTheirValue) {
  EXPECT_EQ(parse_json("9007199254740993")->as_int64(), 9007199254740993);
  EXPECT_EQ(parse_json("-9223372036854775808")->as_int64(), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(parse_json("1e-6")->as_double(), 1e-6);
  EXPECT_EQ(parse_json("10000.0")->as_double(), 10000.0);
}

class JsonFile : public testing::Test {
 protected:
  JsonFile() : path_(testing::TempDir() + "trireme_json_" + std::to_string(getpid()) + ".json") {}
  ~JsonFile() override { std::remove(path_.c_str()); }
  void write(const std::string& text) { std::ofstream(path_, std::ios::binary) << text; }
  std::string path_;
};

TEST_F(JsonFile, IsReadWhole) {
  std::string text = "[";
  for (int i = 0; i < 50'000; ++i) text += "\"0123456789\",";
  write(text + "1]");
  const Result<Json> value = read_json_file(path_);
  ASSERT_TRUE(value.ok()) << value.status().message();
  EXPECT_EQ(value->as_array().size(), 50'001u);
  const std::string bytes("a\0b\r\n", 5);
  write(bytes);
  EXPECT_EQ(*read_file(path_), bytes);
}

TEST_F(JsonFile, ErrorsStartWithThePath) {
  const Result<Json> missing = read_json_file(path_);
  EXPECT_EQ(missing.status().code(), StatusCode::kNotFound);
  EXPECT_EQ(missing.status().message().rfind(path_ + ": cannot open", 0), 0u);
  write("{\n\"a\": 1, \"a\": 2}");
  const Result<Json> wrong = read_json_file(path_);
  EXPECT_EQ(wrong.status().message().rfind(path_ + ": duplicate JSON key 'a' at line 2", 0), 0u);
  write("12345678");
  const Result<Json> large = read_json_file(path_, {.bytes_max = 7});
  EXPECT_EQ(large.status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(large.status().message().rfind(path_ + ": longer than the limit of 7 bytes", 0), 0u);
  EXPECT_TRUE(read_json_file(path_, {.bytes_max = 8}).ok());
  EXPECT_FALSE(read_file(testing::TempDir()).ok());  // a directory
}

TEST(Json, ReadsRealsToTheLastBitAndRefusesThoseThatNoDoubleHolds) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 20000; ++i) {
    const double d = std::bit_cast<double>(random());
    if (!std::isfinite(d)) continue;
    const std::string text = fmt::format("{:.{}e}", d, 12 + i % 8);
    const Result<Json> value = parse_json(text);
    ASSERT_TRUE(value.ok()) << text << ": " << value.status().message();
    EXPECT_EQ(value->to_number<double>(), std::strtod(text.c_str(), nullptr)) << text;
  }
  for (const char* text : {"1e999", "-1e999", "[5e36666]", "1.8e308", "123e400"}) {
    const Result<Json> value = parse_json(text);
    ASSERT_FALSE(value.ok()) << text;
    EXPECT_NE(value.status().message().find("larger than a double holds"), std::string::npos)
        << value.status().message();
  }
  EXPECT_EQ(parse_json("1e-999")->to_number<double>(), 0);
  EXPECT_EQ(parse_json("[0.1, 5, 1.25e2]")->as_array()[2].to_number<double>(), 125);
}

}  // namespace
}  // namespace trireme
