// What is written is read back as the same value, whatever it is.
#include "runtime/config/value_writer.h"

#include <limits>

#include <gtest/gtest.h>

#include "kernels/base/json.h"
#include "runtime/config/value_reader.h"

namespace trireme {
namespace {

ConfigNode node(const std::string& yaml) {
  Result<ConfigNode> root = parse_yaml(yaml, "f");
  EXPECT_TRUE(root.ok()) << yaml << ": " << root.status().message();
  return root.ok() ? root.take() : ConfigNode{};
}

TEST(ValueWriter, Strings) {
  for (const std::string text :
       {"", "a", "yes", "10", "\n\n", "tab\there", "\"quoted\" \\ back", "# no comment", "a: b",
        " edges ", "{x}", "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x8e\x89", "\x01\x1f\x7f", "\r\n", "~"}) {
    EXPECT_EQ(*read_string(node(write_string(text))), text);
    const Result<Json> json = parse_json(write_string(text));
    ASSERT_TRUE(json.ok()) << json.status().message();
    EXPECT_EQ(std::string(json->as_string()), text);
  }
}

TEST(ValueWriter, Numbers) {
  for (const float value : {0.0f, 1.0f, 0.1f, 0.7f, -2.0f, 1e-5f, 1.0f / 3.0f, 3.4e38f, 16777216.0f,
                            std::numeric_limits<float>::denorm_min()}) {
    EXPECT_EQ(static_cast<float>(*read_number(node(write_number(value)))), value)
        << write_number(value);
  }
}

TEST(ValueWriter, SizesAndDurationsInTheLargestUnitThatDividesThem) {
  const std::pair<uint64_t, const char*> sizes[] = {
      {0, "0B"},         {1, "1B"},       {1023, "1023B"},
      {1536, "1536B"},   {1024, "1KiB"},  {uint64_t{3} << 29, "1536MiB"},
      {1 << 30, "1GiB"}, {1000, "1000B"}, {uint64_t{2048} << 40, "2048TiB"}};
  for (const auto& [bytes, text] : sizes) {
    EXPECT_EQ(write_size(bytes), text);
    EXPECT_EQ(*read_size(node(text)), bytes);
  }
  const std::pair<uint64_t, const char*> durations[] = {
      {0, "0ms"},      {1, "1ms"},      {1500, "1500ms"},  {1000, "1s"},
      {90'000, "90s"}, {300'000, "5m"}, {3'600'000, "1h"}, {5'400'000, "90m"}};
  for (const auto& [ms, text] : durations) {
    EXPECT_EQ(write_duration_ms(ms), text);
    EXPECT_EQ(*read_duration_ms(node(text)), ms);
  }
}

TEST(ValueWriter, Lists) {
  const std::vector<std::string> strings = {"a, b", "", "]"};
  EXPECT_EQ(*read_strings(node(write_strings(strings))), strings);
  EXPECT_EQ(write_strings({}), "[]");
  const std::vector<int32_t> ids = {0, 7, std::numeric_limits<int32_t>::max()};
  EXPECT_EQ(*read_token_ids(node(write_token_ids(ids))), ids);
  const std::vector<std::pair<int32_t, float>> bias = {{7, -100.0f}, {8, 0.1f}};
  EXPECT_EQ(*read_logit_bias(node(write_logit_bias(bias))), bias);
}

}  // namespace
}  // namespace trireme
