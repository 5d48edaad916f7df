// A template as a tree: what the parser makes and the interpreter walks. Immutable once made.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/chat/jinja/value.h"

namespace trireme::jinja {

struct Node;
using NodePtr = std::unique_ptr<Node>;

struct Node {
  enum class Kind : uint8_t {
    // Expressions.
    kLiteral,      // value
    kName,         // text
    kList,         // children
    kTuple,        // children
    kDict,         // children: key, value, key, value
    kAttribute,    // children[0] . text
    kItem,         // children[0] [ children[1] ]
    kSlice,        // children[0] [ a : b : c ], each may be null
    kCall,         // children[0] ( the rest, named )
    kFilter,       // children[0] | text ( the rest, named ); children[0] null in a filter block
    kTest,         // children[0] is text ( the rest ); flag: not
    kUnary,        // text: "-", "+", "not"
    kBinary,       // text: the operator; "and" and "or" too
    kCompare,      // children[0] operators[0] children[1] operators[1] ...
    kConditional,  // children: then, condition, else or null
    // Statements.
    kData,    // text
    kOutput,  // children[0]
    kBlock,   // children
    kIf,      // children: condition, body, else or null
    kFor,  // targets in children[0], iterable [1], body [2], else [3] or null, filter [4] or null;
           // flag: recursive
    kSet,  // target children[0] = children[1]; flag: of a block, whose body is children[1] and
           // whose filters, if any, are children[2]
    kMacro,      // text (parameters) children[0] body; named: parameters and defaults (null: none)
    kCallBlock,  // parameters in named; children[0] call, [1] body
    kFilterBlock,  // children[0] filters, [1] body
    kWith,         // children[0] body; named
    kBreak,
    kContinue,
  };
  Kind kind;
  uint32_t line = 0;
  bool flag = false;
  std::string text;
  Value value;
  std::vector<NodePtr> children;
  std::vector<std::pair<std::string, NodePtr>> named;
  std::vector<std::string> operators;
};

struct SyntaxError {
  uint32_t line = 0;
  std::string message;
};

// Throws SyntaxError. trim_blocks and lstrip_blocks are on.
NodePtr parse_template(std::string_view source);

// ---- what the parser reads ----

struct Token {
  enum class Kind : uint8_t {
    kData,
    kBlockBegin,
    kBlockEnd,
    kVariableBegin,
    kVariableEnd,
    kName,
    kString,
    kInteger,
    kFloat,
    kOperator,
    kEnd
  };
  Kind kind = Kind::kEnd;
  uint32_t line = 0;
  std::string text;
};

// Throws SyntaxError.
std::vector<Token> tokenize_template(std::string_view source);

}  // namespace trireme::jinja
