#include <charconv>

#include <fmt/format.h>

#include "runtime/chat/jinja/syntax.h"

namespace trireme::jinja {
namespace {

using Kind = Node::Kind;
using T = Token::Kind;

constexpr int kDepthMax = 200;  // of nested expressions and statements

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokenize_template(source)) {}

  NodePtr run() {
    NodePtr body = block({});
    if (peek().kind != T::kEnd) fail("nothing is open that could end here");
    return body;
  }

 private:
  // ---- tokens ----
  const Token& peek(size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  Token next() { return tokens_[at_ < tokens_.size() - 1 ? at_++ : at_]; }
  bool is_op(std::string_view op) const { return peek().kind == T::kOperator && peek().text == op; }
  bool is_name(std::string_view name) const {
    return peek().kind == T::kName && peek().text == name;
  }
  bool take_op(std::string_view op) { return is_op(op) && (next(), true); }
  bool take_name(std::string_view name) { return is_name(name) && (next(), true); }
  [[noreturn]] void fail(std::string message) const {
    throw SyntaxError{peek().line, std::move(message)};
  }
  std::string found() const {
    const Token& t = peek();
    return t.kind == T::kEnd ? "the end of the template"
           : t.text.empty()  ? "the end of a tag"
                             : fmt::format("'{}'", t.text);
  }
  void expect_op(std::string_view op) {
    if (!take_op(op)) fail(fmt::format("expected '{}', found {}", op, found()));
  }
  std::string expect_name() {
    if (peek().kind != T::kName) fail(fmt::format("expected a name, found {}", found()));
    return next().text;
  }
  void end_tag() {
    if (peek().kind != T::kBlockEnd)
      fail(fmt::format("expected the end of the tag, found {}", found()));
    next();
  }
  NodePtr node(Kind kind) const {
    NodePtr n = std::make_unique<Node>();
    n->kind = kind;
    n->line = peek().line;
    return n;
  }
  template <class... Children>
  NodePtr node(Kind kind, uint32_t line, std::string text, Children... children) const {
    NodePtr n = std::make_unique<Node>();
    n->kind = kind;
    n->line = line;
    n->text = std::move(text);
    (n->children.push_back(std::move(children)), ...);
    return n;
  }
  struct Deeper {
    explicit Deeper(Parser& p) : parser(p) {
      if (++parser.depth_ > kDepthMax) parser.fail(fmt::format("nested deeper than {}", kDepthMax));
    }
    ~Deeper() { --parser.depth_; }
    Parser& parser;
  };

  // ---- statements ----

  // Statements up to a tag that begins with one of `ends`, which is left to the caller but for its
  // opening.
  NodePtr block(const std::vector<std::string_view>& ends) {
    const Deeper deeper(*this);
    NodePtr body = node(Kind::kBlock);
    for (;;) {
      switch (peek().kind) {
        case T::kData: {
          NodePtr data = node(Kind::kData);
          data->text = next().text;
          body->children.push_back(std::move(data));
          break;
        }
        case T::kVariableBegin: {
          next();
          NodePtr output = node(Kind::kOutput);
          output->children.push_back(tuple_expression());
          if (peek().kind != T::kVariableEnd)
            fail(fmt::format("expected '}}}}', found {}", found()));
          next();
          body->children.push_back(std::move(output));
          break;
        }
        case T::kBlockBegin: {
          const Token& word = peek(1);
          for (const std::string_view end : ends) {
            if (word.kind == T::kName && word.text == end) {
              next();
              return body;
            }
          }
          next();
          if (NodePtr made = statement()) body->children.push_back(std::move(made));
          break;
        }
        default:
          if (!ends.empty())
            fail(fmt::format("a block has no end: {{% {} %}} is missing", ends.back()));
          return body;
      }
    }
  }

  NodePtr statement() {
    const std::string word = expect_name();
    if (word == "if") return if_statement();
    if (word == "for") return for_statement();
    if (word == "set") return set_statement();
    if (word == "macro") return macro_statement();
    if (word == "call") return call_statement();
    if (word == "filter") return filter_statement();
    if (word == "with") return with_statement();
    if (word == "generation") {  // marks what an assistant said, for training: nothing here
      end_tag();
      NodePtr body = block({"endgeneration"});
      next();
      end_tag();
      return body;
    }
    if (word == "break" || word == "continue") {
      if (loops_ == 0) fail(fmt::format("{} outside of a loop", word));
      NodePtr made = node(word == "break" ? Kind::kBreak : Kind::kContinue);
      end_tag();
      return made;
    }
    --at_;
    if (word == "include" || word == "import" || word == "from" || word == "extends" ||
        word == "block")
      fail(fmt::format("{{% {} %}} is not for chat templates", word));
    fail(fmt::format("'{}' is no statement", word));
  }

  NodePtr if_statement() {
    NodePtr made = node(Kind::kIf);
    made->children.push_back(expression());
    end_tag();
    made->children.push_back(block({"elif", "else", "endif"}));
    const std::string word = next().text;
    if (word == "elif") {
      made->children.push_back(if_statement());
      return made;
    }
    if (word == "else") {
      end_tag();
      made->children.push_back(block({"endif"}));
      next();
    } else {
      made->children.push_back(nullptr);
    }
    end_tag();
    return made;
  }

  NodePtr for_statement() {
    NodePtr made = node(Kind::kFor);
    made->children.push_back(target());
    if (!take_name("in")) fail(fmt::format("expected 'in', found {}", found()));
    NodePtr iterable = tuple_expression(/*conditional=*/false);
    NodePtr filter;
    if (take_name("if")) filter = expression();
    made->flag = take_name("recursive");
    end_tag();
    ++loops_;
    NodePtr body = block({"else", "endfor"});
    --loops_;
    NodePtr otherwise;
    if (next().text == "else") {
      end_tag();
      otherwise = block({"endfor"});
      next();
    }
    end_tag();
    for (NodePtr* child : {&iterable, &body, &otherwise, &filter})
      made->children.push_back(std::move(*child));
    return made;
  }

  // a, or a, b, or (a, b), or ns.a
  NodePtr target() {
    const Deeper deeper(*this);
    const uint32_t line = peek().line;
    std::vector<NodePtr> parts;
    bool tuple = false;
    do {
      if (!parts.empty() && (is_name("in") || is_op("=") || is_op(")"))) break;  // a,
      if (take_op("(")) {
        parts.push_back(target());
        expect_op(")");
      } else {
        NodePtr name = node(Kind::kName);
        name->text = expect_name();
        if (take_op(".")) {
          const std::string member = expect_name();
          name = node(Kind::kAttribute, line, member, std::move(name));
        }
        parts.push_back(std::move(name));
      }
      tuple = tuple || is_op(",");
    } while (take_op(","));
    if (!tuple) return std::move(parts[0]);
    NodePtr made = node(Kind::kTuple, line, "");
    made->children = std::move(parts);
    return made;
  }

  NodePtr set_statement() {
    NodePtr made = node(Kind::kSet);
    made->children.push_back(target());
    if (take_op("=")) {
      made->children.push_back(tuple_expression());
      end_tag();
      return made;
    }
    made->flag = true;
    NodePtr filters = is_op("|") ? filter_chain(nullptr) : nullptr;
    end_tag();
    made->children.push_back(block({"endset"}));
    made->children.push_back(std::move(filters));
    next();
    end_tag();
    return made;
  }

  void parameters(Node& into) {
    expect_op("(");
    bool defaults = false;
    while (!take_op(")")) {
      if (!into.named.empty()) expect_op(",");
      const std::string name = expect_name();
      NodePtr value;
      if (take_op("=")) {
        value = expression();
        defaults = true;
      } else if (defaults) {
        fail("a parameter without a default follows one with a default");
      }
      into.named.emplace_back(name, std::move(value));
    }
  }

  NodePtr macro_statement() {
    NodePtr made = node(Kind::kMacro);
    made->text = expect_name();
    parameters(*made);
    end_tag();
    const int loops = std::exchange(loops_, 0);
    made->children.push_back(block({"endmacro"}));
    loops_ = loops;
    next();
    if (peek().kind == T::kName) next();  // {% endmacro name %}
    end_tag();
    return made;
  }

  NodePtr call_statement() {
    NodePtr made = node(Kind::kCallBlock);
    if (is_op("(")) parameters(*made);
    made->children.push_back(expression());
    if (made->children[0]->kind != Kind::kCall) fail("{% call %} needs a call");
    end_tag();
    made->children.push_back(block({"endcall"}));
    next();
    end_tag();
    return made;
  }

  NodePtr filter_statement() {
    NodePtr made = node(Kind::kFilterBlock);
    made->children.push_back(one_filter(nullptr));
    while (is_op("|")) made->children[0] = filter_chain(std::move(made->children[0]));
    end_tag();
    made->children.push_back(block({"endfilter"}));
    next();
    end_tag();
    return made;
  }

  NodePtr with_statement() {
    NodePtr made = node(Kind::kWith);
    while (peek().kind != T::kBlockEnd) {
      if (!made->named.empty()) expect_op(",");
      const std::string name = expect_name();
      expect_op("=");
      made->named.emplace_back(name, expression());
    }
    end_tag();
    made->children.push_back(block({"endwith"}));
    next();
    end_tag();
    return made;
  }

  // ---- expressions, from the loosest to the tightest ----

  // a, b is a tuple
  NodePtr tuple_expression(bool conditional = true) {
    const uint32_t line = peek().line;
    NodePtr first = conditional ? expression() : or_expression();
    if (!is_op(",")) return first;
    NodePtr tuple = node(Kind::kTuple, line, "", std::move(first));
    while (take_op(",")) {
      if (peek().kind == T::kVariableEnd || peek().kind == T::kBlockEnd || is_op(")")) break;
      tuple->children.push_back(conditional ? expression() : or_expression());
    }
    return tuple;
  }

  NodePtr expression() {
    const Deeper deeper(*this);
    const uint32_t line = peek().line;
    NodePtr value = or_expression();
    while (take_name("if")) {
      NodePtr condition = or_expression();
      NodePtr otherwise;
      if (take_name("else")) otherwise = expression();
      value = node(Kind::kConditional, line, "", std::move(value), std::move(condition),
                   std::move(otherwise));
    }
    return value;
  }

  NodePtr or_expression() {
    NodePtr left = and_expression();
    while (is_name("or")) {
      const uint32_t line = next().line;
      left = node(Kind::kBinary, line, "or", std::move(left), and_expression());
    }
    return left;
  }
  NodePtr and_expression() {
    NodePtr left = not_expression();
    while (is_name("and")) {
      const uint32_t line = next().line;
      left = node(Kind::kBinary, line, "and", std::move(left), not_expression());
    }
    return left;
  }
  NodePtr not_expression() {
    const Deeper deeper(*this);
    if (!is_name("not")) return comparison();
    const uint32_t line = next().line;
    return node(Kind::kUnary, line, "not", not_expression());
  }

  NodePtr comparison() {
    const uint32_t line = peek().line;
    NodePtr first = additive();
    NodePtr made;
    for (;;) {
      std::string op;
      if (peek().kind == T::kOperator) {
        for (const std::string_view known : {"==", "!=", "<", ">", "<=", ">="}) {
          if (peek().text == known) op = known;
        }
      } else if (is_name("in")) {
        op = "in";
      } else if (is_name("not") && peek(1).kind == T::kName && peek(1).text == "in") {
        op = "not in";
        next();
      }
      if (op.empty()) return made == nullptr ? std::move(first) : std::move(made);
      next();
      if (made == nullptr) made = node(Kind::kCompare, line, "", std::move(first));
      made->operators.push_back(op);
      made->children.push_back(additive());
    }
  }

  template <class Tighter>
  NodePtr left_associative(std::initializer_list<std::string_view> operators,
                           const Tighter& tighter) {
    NodePtr left = tighter();
    for (;;) {
      bool any = false;
      for (const std::string_view op : operators) {
        if (!is_op(op)) continue;
        const uint32_t line = next().line;
        left = node(Kind::kBinary, line, std::string(op), std::move(left), tighter());
        any = true;
        break;
      }
      if (!any) return left;
    }
  }
  NodePtr additive() {
    return left_associative({"+", "-"}, [&] {
      return left_associative({"~"}, [&] {
        return left_associative({"*", "/", "//", "%"}, [&] {
          return left_associative({"**"}, [&] { return unary(true); });
        });
      });
    });
  }

  NodePtr unary(bool filters) {
    const Deeper deeper(*this);
    NodePtr made;
    if (is_op("-") || is_op("+")) {
      const Token sign = next();
      made = node(Kind::kUnary, sign.line, sign.text, unary(false));
    } else {
      made = primary();
    }
    made = postfix(std::move(made));
    return filters ? filter_expression(std::move(made)) : std::move(made);
  }

  NodePtr literal(Value value) {
    NodePtr made = node(Kind::kLiteral);
    made->value = std::move(value);
    return made;
  }

  NodePtr primary() {
    const Token t = peek();
    switch (t.kind) {
      case T::kName: {
        next();
        if (t.text == "true" || t.text == "True") return literal(Value::boolean(true));
        if (t.text == "false" || t.text == "False") return literal(Value::boolean(false));
        if (t.text == "none" || t.text == "None") return literal(Value::none());
        return node(Kind::kName, t.line, t.text);
      }
      case T::kString: {
        std::string text;
        while (peek().kind == T::kString) text += next().text;  // "a" "b"
        return literal(Value::text(std::move(text)));
      }
      case T::kInteger:
      case T::kFloat:
        next();
        return number(t);
      default:
        break;
    }
    if (take_op("(")) {
      if (take_op(")")) return node(Kind::kTuple, t.line, "");
      NodePtr inner = tuple_expression();
      expect_op(")");
      return inner;
    }
    if (take_op("[")) {
      NodePtr list = node(Kind::kList, t.line, "");
      while (!take_op("]")) {
        if (!list->children.empty()) expect_op(",");
        if (take_op("]")) break;
        list->children.push_back(expression());
      }
      return list;
    }
    if (take_op("{")) {
      NodePtr dict = node(Kind::kDict, t.line, "");
      while (!take_op("}")) {
        if (!dict->children.empty()) expect_op(",");
        if (take_op("}")) break;
        dict->children.push_back(expression());
        expect_op(":");
        dict->children.push_back(expression());
      }
      return dict;
    }
    fail(fmt::format("expected an expression, found {}", found()));
  }

  NodePtr number(const Token& t) {
    const char* const end = t.text.data() + t.text.size();
    if (t.kind == T::kInteger) {
      int64_t value = 0;
      if (std::from_chars(t.text.data(), end, value).ec != std::errc())
        fail(fmt::format("the number {} is too large", t.text));
      return literal(Value::integer(value));
    }
    double value = 0;
    if (std::from_chars(t.text.data(), end, value).ec != std::errc())
      fail(fmt::format("the number {} is too large", t.text));
    return literal(Value::number(value));
  }

  NodePtr postfix(NodePtr made) {
    for (;;) {
      const uint32_t line = peek().line;
      if (take_op(".")) {
        if (peek().kind == T::kInteger) {
          made = node(Kind::kItem, line, "", std::move(made), number(next()));
        } else {
          const std::string name = expect_name();
          made = node(Kind::kAttribute, line, name, std::move(made));
        }
      } else if (take_op("[")) {
        made = subscript(std::move(made), line);
      } else if (is_op("(")) {
        NodePtr call = node(Kind::kCall, line, "", std::move(made));
        arguments(*call);
        made = std::move(call);
      } else {
        return made;
      }
    }
  }

  NodePtr subscript(NodePtr made, uint32_t line) {
    NodePtr parts[3];
    bool slice = false;
    for (int i = 0;;) {
      if (!is_op(":") && !is_op("]")) parts[i] = i == 0 ? tuple_expression() : expression();
      if (!is_op(":")) break;
      if (++i > 2) fail("a slice has three parts at most");
      next();
      slice = true;
    }
    expect_op("]");
    if (slice)
      return node(Kind::kSlice, line, "", std::move(made), std::move(parts[0]), std::move(parts[1]),
                  std::move(parts[2]));
    if (parts[0] == nullptr) fail("an index is missing");
    return node(Kind::kItem, line, "", std::move(made), std::move(parts[0]));
  }

  void arguments(Node& call) {
    expect_op("(");
    bool first = true;
    while (!take_op(")")) {
      if (!first) expect_op(",");
      first = false;
      if (take_op(")")) return;
      if (is_op("*") || is_op("**")) fail("* and ** in a call are not for chat templates");
      if (peek().kind == T::kName && peek(1).kind == T::kOperator && peek(1).text == "=") {
        const std::string name = next().text;
        next();
        call.named.emplace_back(name, expression());
      } else {
        if (!call.named.empty()) fail("an argument without a name follows one with a name");
        call.children.push_back(expression());
      }
    }
  }

  NodePtr one_filter(NodePtr input) {
    NodePtr made = node(Kind::kFilter);
    made->text = expect_name();
    made->children.push_back(std::move(input));
    if (is_op("(")) arguments(*made);
    return made;
  }
  NodePtr filter_chain(NodePtr input) {
    while (take_op("|")) input = one_filter(std::move(input));
    return input;
  }

  NodePtr filter_expression(NodePtr made) {
    for (;;) {
      if (is_op("|")) {
        made = filter_chain(std::move(made));
      } else if (is_name("is")) {
        made = test(std::move(made));
      } else if (is_op("(")) {
        NodePtr call = node(Kind::kCall, peek().line, "", std::move(made));
        arguments(*call);
        made = std::move(call);
      } else {
        return made;
      }
    }
  }

  NodePtr test(NodePtr made) {
    const uint32_t line = next().line;
    const bool negated = take_name("not");
    NodePtr test = node(Kind::kTest, line, expect_name(), std::move(made));
    test->flag = negated;
    const Token& t = peek();
    const bool reserved = t.kind == T::kName &&
                          (t.text == "else" || t.text == "or" || t.text == "and" ||
                           t.text == "is" || t.text == "if" || t.text == "in" || t.text == "not");
    if (is_op("(")) {
      arguments(*test);
    } else if ((t.kind == T::kName && !reserved) || t.kind == T::kString || t.kind == T::kInteger ||
               t.kind == T::kFloat || is_op("[") || is_op("{")) {
      test->children.push_back(postfix(primary()));
    }
    return test;
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0, loops_ = 0;
};

}  // namespace

NodePtr parse_template(std::string_view source) { return Parser(source).run(); }

}  // namespace trireme::jinja
