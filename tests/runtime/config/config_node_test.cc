// YAML that readers understand differently is refused, with its place; the rest becomes a tree.
#include "runtime/config/config_node.h"

#include <gtest/gtest.h>

namespace trireme {
namespace {

std::string error_of(std::string_view text) {
  const Result<ConfigNode> node = parse_yaml(text, "f.yaml");
  return node.ok() ? "" : node.status().message();
}

TEST(ConfigNode, BecomesATreeWithPlaces) {
  const Result<ConfigNode> root = parse_yaml("a: {b: 1}\nc:\n  - x\n  - 'y'\nd:\n", "f.yaml");
  ASSERT_TRUE(root.ok()) << root.status().message();
  ASSERT_EQ(root->entries.size(), 3u);
  const auto& [a, inner] = root->entries[0];
  EXPECT_EQ(a.text, "a");
  EXPECT_EQ(a.where, "f.yaml:1:1");
  ASSERT_EQ(inner.kind, ConfigNode::Kind::kMap);
  EXPECT_EQ(inner.entries[0].value.text, "1");
  EXPECT_EQ(inner.entries[0].value.where, "f.yaml:1:8");
  const ConfigNode& c = root->entries[1].value;
  ASSERT_EQ(c.kind, ConfigNode::Kind::kList);
  EXPECT_EQ(c.items[0].style, ConfigNode::Style::kPlain);
  EXPECT_EQ(c.items[1].style, ConfigNode::Style::kQuoted);
  EXPECT_EQ(c.items[1].where, "f.yaml:4:5");
  EXPECT_EQ(root->entries[2].value.kind, ConfigNode::Kind::kNull);
}

TEST(ConfigNode, ReadsBlockTexts) {
  const Result<ConfigNode> root = parse_yaml("a: |\n  one\n  \ttwo\n", "f.yaml");
  ASSERT_TRUE(root.ok()) << root.status().message();
  EXPECT_EQ(root->entries[0].value.text, "one\n\ttwo\n");
}

TEST(ConfigNode, RefusesWhatReadersDisagreeOn) {
  const struct {
    const char* text;
    const char* message;
  } cases[] = {
      {"a: 1\nb: 2\na: 3\n", "f.yaml:3:1: duplicate key 'a', first at f.yaml:1:1"},
      {"a: 1\n'a': 3\n", "f.yaml:2:1: duplicate key 'a'"},
      {"x: {k: 1, k: 2}\n", "f.yaml:1:11: duplicate key 'k'"},
      {"a: &x 1\n", "f.yaml:1:4: anchors"},
      {"a: &x {b: 1}\n", "f.yaml:1:4: anchors"},
      {"a: &x [1]\n", "f.yaml:1:4: anchors"},
      {"a: {<<: {b: 1}}\n", "f.yaml:1:5: merge keys (<<)"},
      {"a: !!str 1\n", "f.yaml:1:4: tags (tag:yaml.org,2002:str)"},
      {"a: !x {b: 1}\n", "f.yaml:1:4: tags (!x)"},
      {"{[1]: 2}\n", "f.yaml:1:2: a map or a list is no key"},
      {"? {a: 1}\n: 2\n", "f.yaml:1:3: a map or a list is no key"},
      {"~: 2\n", "f.yaml:1:1: an empty key"},
      {"a:\n\tb: 1\n", "f.yaml:2:1: a tab as indentation"},
      {"a: 1\n---\nb: 2\n", "f.yaml: more than one document"},
      {"", "f.yaml: the file is empty"},
      {"# nothing\n", "f.yaml: the file is empty"},
  };
  for (const auto& c : cases) {
    EXPECT_TRUE(error_of(c.text).starts_with(c.message)) << c.text << " gave: " << error_of(c.text);
  }
  EXPECT_TRUE(error_of(std::string_view("a: \0", 4)).starts_with("f.yaml:1:4: a zero byte"));
}

TEST(ConfigNode, SyntaxErrorsHaveTheirPlace) {
  for (const char* text :
       {"a: [1, 2\nb: 3\n", "a: b: c\n", "a: 'x\n", "- a\nb: 1\n", "a: @x\n", "a: 1\n  b: 2\n",
        "  \ta: 1\n", "a:\n  \tb: 1\n", "*x\n", "%YAML 3.0\n"}) {
    const std::string message = error_of(text);
    EXPECT_TRUE(message.starts_with("f.yaml")) << text << " gave: '" << message << "'";
  }
  EXPECT_TRUE(error_of("a: 1\nb: [1\n").starts_with("f.yaml:3:1: not YAML: "));
}

// Depth, width and length are bounded; with aliases refused there is nothing to expand.
TEST(ConfigNode, IsNoBomb) {
  for (const char opening : {'[', '{', '-', '?', '*', '&', '!', '|', '"'})
    (void)error_of(std::string(100'000, opening));  // no stack overflow, no long wait
  EXPECT_FALSE(error_of(std::string(100'000, '[')).empty());
  std::string deep, dashes;
  for (size_t i = 0; i < 700; ++i) deep += std::string(i, ' ') + "a:\n";
  for (size_t i = 0; i < 3000; ++i) dashes += "- ";
  EXPECT_EQ(error_of(deep), "f.yaml:33:33: nested deeper than 32 levels");
  EXPECT_EQ(error_of(dashes + "a"), "f.yaml:1:65: nested deeper than 32 levels");
  std::string keys;
  for (size_t i = 0; i < 40'000; ++i) keys += std::to_string(i) + ": 1\n";
  EXPECT_EQ(error_of(keys), "");
  std::string wide = "a: [";
  for (int i = 0; i < 120'000; ++i) wide += "1,";
  EXPECT_NE(error_of(wide + "]").find("more than 100000 values"), std::string::npos);
  EXPECT_NE(error_of(std::string((1 << 20) + 1, ' ')).find("longer than the limit"),
            std::string::npos);
}

}  // namespace
}  // namespace trireme
