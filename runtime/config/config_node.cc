#include "runtime/config/config_node.h"

#include <sstream>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>
#include <yaml-cpp/anchor.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

namespace trireme {
namespace {

// Ends a parse from inside one of yaml-cpp's callbacks; caught in parse_yaml.
struct Refused {
  Status status;
};

// Builds the tree from yaml-cpp's events. Its own tree (YAML::Node) keeps duplicate keys silently
// and follows aliases; events show both before they do harm.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(std::string_view name, const YamlLimits& limits) : name_(name), limits_(limits) {}

  ConfigNode take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse_anchor(mark, anchor);
    add(leaf(mark, ConfigNode::Kind::kNull, {}, ConfigNode::Style::kPlain));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    refuse(mark, "aliases (*name) are not read: write the value out");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    refuse_anchor(mark, anchor);
    refuse_tag(mark, tag);
    const auto style = tag == "?" ? ConfigNode::Style::kPlain : ConfigNode::Style::kQuoted;
    add(leaf(mark, ConfigNode::Kind::kScalar, value, style));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, ConfigNode::Kind::kList);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, ConfigNode::Kind::kMap);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    ConfigNode node;
    ConfigNode key;
    bool has_key = false;
    std::unordered_map<std::string, std::string> keys = {};  // and where each stands
  };

  std::string at(const YAML::Mark& mark) const {
    return fmt::format("{}:{}:{}", name_, mark.line + 1, mark.column + 1);
  }
  [[noreturn]] void refuse(const YAML::Mark& mark, std::string_view why) const {
    throw Refused{invalid_argument(fmt::format("{}: {}", at(mark), why))};
  }
  void refuse_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) const {
    if (anchor != 0) refuse(mark, "anchors (&name) are not read: write the value out");
  }
  void refuse_tag(const YAML::Mark& mark, const std::string& tag) const {
    if (!tag.empty() && tag != "?" && tag != "!")
      refuse(mark, fmt::format("tags ({}) are not read: leave it out", tag));
  }

  ConfigNode leaf(const YAML::Mark& mark, ConfigNode::Kind kind, std::string text,
                  ConfigNode::Style style) {
    if (++nodes_ > limits_.nodes_max)
      refuse(mark, fmt::format("more than {} values: this is no configuration", limits_.nodes_max));
    ConfigNode node;
    node.kind = kind;
    node.style = style;
    node.text = std::move(text);
    node.where = at(mark);
    return node;
  }

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
            ConfigNode::Kind kind) {
    refuse_anchor(mark, anchor);
    refuse_tag(mark, tag);
    if (!open_.empty() && open_.back().node.kind == ConfigNode::Kind::kMap && !open_.back().has_key)
      refuse(mark, "a map or a list is no key: keys are words");
    if (open_.size() >= limits_.depth_max)
      refuse(mark, fmt::format("nested deeper than {} levels", limits_.depth_max));
    open_.push_back({leaf(mark, kind, {}, ConfigNode::Style::kPlain), {}});
  }

  void close() {
    ConfigNode done = std::move(open_.back().node);
    open_.pop_back();
    add(std::move(done));
  }

  void add(ConfigNode node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& top = open_.back();
    if (top.node.kind == ConfigNode::Kind::kList) {
      top.node.items.push_back(std::move(node));
    } else if (top.has_key) {
      top.node.entries.push_back({std::move(top.key), std::move(node)});
      top.has_key = false;
    } else {
      check_key(top.keys, node);
      top.key = std::move(node);
      top.has_key = true;
    }
  }

  static void check_key(std::unordered_map<std::string, std::string>& keys, const ConfigNode& key) {
    if (key.kind != ConfigNode::Kind::kScalar)
      throw Refused{key.error("an empty key: keys are words")};
    if (key.text == "<<" && key.style == ConfigNode::Style::kPlain)
      throw Refused{key.error("merge keys (<<) are not read: write the values out")};
    const auto [other, added] = keys.emplace(key.text, key.where);
    if (!added)
      throw Refused{key.error(fmt::format("duplicate key '{}', first at {}: remove one of them",
                                          key.text, other->second))};
  }

  std::string_view name_;
  const YamlLimits& limits_;
  size_t nodes_ = 0;
  std::vector<Open> open_;
  ConfigNode root_;
};

// What must be said before yaml-cpp reads the text, because it would say it badly or not at all.
Status check_text(std::string_view text, std::string_view name, const YamlLimits& limits) {
  if (text.size() > limits.bytes_max)
    return invalid_argument(fmt::format("{}: longer than the limit of {} bytes: is it a YAML file?",
                                        name, limits.bytes_max));
  size_t line = 1;
  size_t column = 1;
  bool indentation = true;
  for (const char c : text) {
    if (c == '\0')
      return invalid_argument(
          fmt::format("{}:{}:{}: a zero byte: is it a YAML file?", name, line, column));
    if (c == '\t' && indentation && column == 1)
      return invalid_argument(fmt::format("{}:{}:1: a tab as indentation: use spaces", name, line));
    indentation = c == '\n' || (indentation && c == ' ');
    column = c == '\n' ? 1 : column + 1;
    line += c == '\n' ? 1 : 0;
  }
  return {};
}

}  // namespace

std::string ConfigNode::describe() const {
  switch (kind) {
    case Kind::kNull:
      return "null";
    case Kind::kList:
      return "a list";
    case Kind::kMap:
      return "a map";
    case Kind::kScalar:
      break;
  }
  std::string shown = text.size() <= 60 ? text : text.substr(0, 57) + "...";
  return style == Style::kQuoted ? fmt::format("the string '{}'", shown)
                                 : fmt::format("'{}'", shown);
}

Status ConfigNode::error(std::string_view message) const {
  return invalid_argument(fmt::format("{}: {}", where, message));
}

ConfigNode ConfigNode::argument(std::string text, std::string where) {
  ConfigNode node;
  node.kind = Kind::kScalar;
  node.style = Style::kArgument;
  node.text = std::move(text);
  node.where = std::move(where);
  return node;
}

Result<ConfigNode> parse_yaml(std::string_view text, std::string_view name,
                              const YamlLimits& limits) {
  if (Status s = check_text(text, name, limits); !s.ok()) return s;
  // yaml-cpp takes a quote for closed that the end of the file follows after a line break; after a
  // comment without one it does not.
  std::istringstream stream(std::string(text) + (text.ends_with('\n') ? "#" : "\n#"));
  TreeBuilder builder(name, limits);
  try {
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder))
      return invalid_argument(
          fmt::format("{}: the file is empty: it needs at least 'version: 1' "
                      "and a model",
                      name));
    ConfigNode root = builder.take_root();
    TreeBuilder second(name, limits);
    if (parser.HandleNextDocument(second))
      return invalid_argument(
          fmt::format("{}: more than one document (---): a file holds one", name));
    return root;
  } catch (const Refused& refused) {
    return refused.status;
  } catch (const YAML::Exception& e) {
    if (e.mark.is_null()) return invalid_argument(fmt::format("{}: not YAML: {}", name, e.msg));
    return invalid_argument(
        fmt::format("{}:{}:{}: not YAML: {}", name, e.mark.line + 1, e.mark.column + 1, e.msg));
  } catch (const std::exception& e) {
    return invalid_argument(fmt::format("{}: not YAML: {}", name, e.what()));
  }
}

}  // namespace trireme
