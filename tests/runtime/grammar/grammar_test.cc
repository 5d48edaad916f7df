// Constraints against things that know better: masks against trying every token byte by byte with
// an automaton of its own, regular expressions against PCRE2's partial matching, JSON against a
// parser and a small validator; random outputs under the mask never get stuck.
#include <cmath>
#include <random>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "runtime/grammar/grammar_compiler.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "kernels/base/json.h"
#include "runtime/grammar/front_ends.h"
#include "runtime/text/utf8.h"

namespace trireme {
namespace {

using Kind = ConstraintSpec::Kind;

std::unique_ptr<Tokenizer> tokenizer(const std::string& name) {
  const std::string data = TRIREME_SOURCE_DIR "/tests/golden/data/";
  Result<std::unique_ptr<Tokenizer>> loaded =
      name == "rwkv_world"
          ? load_rwkv_vocab(TRIREME_BINARY_DIR "/rwkv_world/rwkv_vocab_v20230424.txt")
          : load_tokenizer(data + "tokenizers/" + name);
  CHECK(loaded.ok()) << loaded.status().message();
  return loaded.take();
}

const std::vector<std::string> kTokenizers = {"gpt2",  "llama2",    "llama3", "qwen2",
                                              "gemma", "metaspace", "o200k",  "deepseek",
                                              "neox",  "rwkv_world"};

bool allowed(const std::vector<uint32_t>& mask, int32_t id) {
  return (mask[static_cast<size_t>(id) / 32] >> (id % 32) & 1) != 0;
}

// A compiler for a tokenizer of the goldens; its last id stands for the end.
struct Compiler {
  explicit Compiler(const std::string& name, const GrammarLimits& limits = {})
      : tokens(tokenizer(name)),
        vocab(tokens->vocab_size() + 3),
        eos(vocab - 1),
        grammars(*tokens, {eos}, vocab, limits) {}
  std::unique_ptr<TokenConstraint> make(Kind kind, std::string text) {
    auto made = grammars.compile({kind, std::move(text)});
    CHECK(made.ok()) << made.status().message();
    return made.take();
  }
  std::string error(Kind kind, std::string text) {
    const auto made = grammars.compile({kind, std::move(text)});
    return made.ok() ? "ok" : made.status().message();
  }
  // Vocabularies without tokens for bytes cannot write everything.
  bool can_write(Kind kind, const std::string& text) {
    if (grammars.trie().alphabet().empty()) return true;
    return error(kind, text).find("that the vocabulary can write") == std::string::npos;
  }
  std::vector<uint32_t> mask(TokenConstraint& c) const {
    std::vector<uint32_t> bits((static_cast<size_t>(vocab) + 31) / 32, 0xFFFFFFFF);
    const Status filled = c.fill_mask(bits);
    EXPECT_TRUE(filled.ok()) << filled.message();
    return bits;
  }

  std::unique_ptr<Tokenizer> tokens;
  int32_t vocab, eos;
  GrammarCompiler grammars;
};

// An output under the mask, chosen at random, short tokens and ends preferred so that it ends;
// checks every mask against an automaton of the same grammar that reads each token by itself.
std::string random_output(Compiler& c, const grammar::Grammar& grammar, Kind kind,
                          const std::string& text, uint64_t seed, bool check_masks) {
  std::mt19937_64 random(seed);
  std::unique_ptr<TokenConstraint> constraint = c.make(kind, text);
  grammar::Automaton automaton =
      *grammar::Automaton::make(grammar, {}, c.grammars.trie().alphabet());
  grammar::Automaton::State state = automaton.start();
  std::string output;
  for (int step = 0; step < 400; ++step) {
    const std::vector<uint32_t> mask = c.mask(*constraint);
    std::vector<int32_t> choices;
    for (int32_t id = 0; id < c.vocab; ++id) {
      const bool may = allowed(mask, id);
      if (check_masks && id != c.eos) {
        grammar::Automaton::State to = state;
        const TokenText t = c.tokens->token_text(id, false);
        for (const char b : t.bytes) to = automaton.next(to, static_cast<uint8_t>(b));
        const bool fits =
            t.exists && !t.special && !t.bytes.empty() && to != grammar::Automaton::kDead;
        EXPECT_EQ(may, fits) << "token " << id << " '" << t.bytes << "' after '" << output << "'";
      }
      if (may) choices.push_back(id);
    }
    EXPECT_EQ(allowed(mask, c.eos), automaton.accepts(state)) << output;
    EXPECT_FALSE(choices.empty()) << "stuck after '" << output << "'";
    if (choices.empty()) return output;
    if (allowed(mask, c.eos) && (random() % 3 == 0 || step > 60)) return output;
    // Late in the output, what closes things.
    int32_t token = choices[random() % choices.size()];
    for (int tries = 0; step > 40 && tries < 200; ++tries) {
      const std::string_view bytes = c.grammars.trie().bytes(token);
      if (bytes == "\"" || bytes == "}" || bytes == "]" || bytes == "\"}" || bytes == "0") break;
      token = choices[random() % choices.size()];
    }
    if (token == c.eos) return output;
    constraint->accept(token);
    for (const char b : c.grammars.trie().bytes(token)) {
      state = automaton.next(state, static_cast<uint8_t>(b));
      output += b;
    }
  }
  return output + "<no end>";
}

// ---- regular expressions, against PCRE2 ----

const std::vector<std::string> kRegexes = {"abc",
                                           "a*b+c?",
                                           "(foo|bar)+",
                                           "[a-c]{2,4}",
                                           "\\d{3}-\\d{4}",
                                           "(a|ab)(c|bcd)",
                                           "[^a-z]+",
                                           "x.y",
                                           "é+|日本語",
                                           "(?:yes|no)( maybe)?",
                                           "\\w+@\\w+\\.com",
                                           "[\\d.]+",
                                           "a{0,3}b{2}",
                                           "(a(b(c)?)?)?d",
                                           "[\\u4e00-\\u9fff]{1,3}",
                                           "\"[^\"\\\\]*\"",
                                           "-?(0|[1-9]\\d*)",
                                           "a|b|c|",
                                           "(0|1(01*0)*1)+",
                                           "[-a]+[]x]",
                                           "(a*)*b",
                                           "(a?b?){2,3}(c|)+",
                                           "((a|b*)+x?)*",
                                           "^ab$|^(x|y)$"};

// Whether bytes are the beginning of a match: 2 a match, 1 a beginning, 0 neither.
int pcre_says(const std::string& regex, const std::string& text) {
  int error = 0;
  size_t where = 0;
  const std::string whole = "\\A(?:" + regex + ")\\z";
  std::string pattern;
  for (size_t i = 0; i < whole.size(); ++i) {  // \\uXXXX is \\x{XXXX} there
    if (whole.compare(i, 2, "\\u") == 0) {
      pattern += "\\x{" + whole.substr(i + 2, 4) + "}";
      i += 5;
    } else {
      pattern += whole[i];
    }
  }
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   PCRE2_UTF | PCRE2_DOLLAR_ENDONLY, &error, &where, nullptr);
  CHECK(code != nullptr) << regex;
  pcre2_match_data* data = pcre2_match_data_create_from_pattern(code, nullptr);
  const int rc = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0,
                             PCRE2_PARTIAL_SOFT, data, nullptr);
  pcre2_match_data_free(data);
  pcre2_code_free(code);
  return rc >= 0 ? 2 : rc == PCRE2_ERROR_PARTIAL ? 1 : 0;
}

TEST(Grammar, RegexesAreThoseOfPcre) {
  std::mt19937_64 random(7);
  const std::vector<std::string> letters = {"a",  "b",  "c", "x",  "y",  "0", "1",  "-", ".", "@",
                                            "\"", "\\", "é", "日", "本", " ", "\n", "z", "d", "語",
                                            "m",  "o",  "]", "f",  "r",  "e", "s",  "n", "u"};
  for (const std::string& regex : kRegexes) {
    grammar::Automaton automaton = *grammar::Automaton::make(grammar::parse_regex(regex));
    size_t matches = 0;
    for (int i = 0; i < 3000; ++i) {
      std::string text;
      grammar::Automaton::State state = automaton.start();
      for (size_t n = random() % 9; n > 0; --n) {
        std::string next = letters[random() % letters.size()];
        // Mostly what may follow, so that texts get somewhere.
        for (int tries = 0; tries < 30; ++tries) {
          grammar::Automaton::State to = state;
          for (const char b : next) to = automaton.next(to, static_cast<uint8_t>(b));
          if (to != grammar::Automaton::kDead) break;
          next = letters[random() % letters.size()];
        }
        text += next;
        for (const char b : next) state = automaton.next(state, static_cast<uint8_t>(b));
      }
      const int expected = pcre_says(regex, text);
      const bool alive = state != grammar::Automaton::kDead;
      // PCRE2 calls a match that could go on a match, and a text that matched before its end none.
      EXPECT_EQ(alive && automaton.accepts(state), expected == 2)
          << regex << " on '" << text << "'";
      if (expected == 1) {
        EXPECT_TRUE(alive) << regex << " on '" << text << "'";
      }
      if (!alive) {
        EXPECT_NE(expected, 2);
      }
      matches += expected == 2;
    }
    EXPECT_GT(matches, 0u) << regex;
  }
}

TEST(Grammar, RegexMasksAreExactForEveryTokenizer) {
  for (const std::string& name : kTokenizers) {
    Compiler c(name);
    for (const std::string& regex : kRegexes) {
      SCOPED_TRACE(name + " " + regex);
      if (!c.can_write(Kind::kRegex, regex)) continue;
      const std::string output = random_output(c, grammar::parse_regex(regex), Kind::kRegex, regex,
                                               3, /*check_masks=*/true);
      if (output.ends_with("<no end>")) continue;
      EXPECT_EQ(pcre_says(regex, output), 2) << output;
      if (::testing::Test::HasFailure()) return;
    }
  }
}

// ---- JSON, against a parser and a validator ----

struct SchemaCase {
  std::string schema;
  bool (*valid)(const Json&);
};
bool is_whole(const Json& v, int64_t low, int64_t high) {
  return v.is_int64() && v.get_int64() >= low && v.get_int64() <= high;
}
const Json& at(const Json& v, const char* key) { return v.as_object().at(key); }

const std::vector<SchemaCase> kSchemas = {
    {R"({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0,
        "maximum": 150}}, "required": ["name", "age"], "additionalProperties": false})",
     [](const Json& v) {
       return v.as_object().size() == 2 && at(v, "name").is_string() &&
              is_whole(at(v, "age"), 0, 150);
     }},
    {R"({"type": "array", "items": {"enum": ["a", "b", 3, null]}, "minItems": 2, "maxItems": 4})",
     [](const Json& v) { return v.as_array().size() >= 2 && v.as_array().size() <= 4; }},
    {R"({"anyOf": [{"type": "integer", "minimum": -12, "maximum": 37}, {"const": {"k": [1, "x"]}}]})",
     [](const Json& v) { return v.is_object() || is_whole(v, -12, 37); }},
    {R"({"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": ["null", "number"]},
        "c": {"type": "string", "minLength": 1, "maxLength": 3}}, "required": ["b"]})",
     [](const Json& v) {
       const JsonObject& o = v.as_object();
       return (at(v, "b").is_null() || at(v, "b").is_number()) &&
              (!o.contains("a") || at(v, "a").is_bool()) &&
              (!o.contains("c") || !at(v, "c").as_string().empty());
     }},
    {R"({"$defs": {"node": {"type": "object", "properties": {"v": {"type": "integer"}, "next":
        {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}, "required": ["v", "next"]}}, "$ref": "#/$defs/node"})",
     [](const Json& v) {
       return at(v, "v").is_number() && (at(v, "next").is_null() || at(v, "next").is_object());
     }},
    {R"({"type": "string", "format": "date"})",
     [](const Json& v) { return v.as_string().size() == 10 && v.as_string()[4] == '-'; }},
    {R"({"type": "string", "pattern": "^[A-Z]{2}\\d+$"})",
     [](const Json& v) {
       return v.as_string().size() >= 3 && v.as_string()[0] >= 'A' && v.as_string()[0] <= 'Z';
     }},
    {R"({"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": false})",
     [](const Json& v) { return v.as_array().size() == 2 && v.as_array()[0].is_string(); }},
    {R"({"type": "object", "additionalProperties": {"type": "integer", "exclusiveMinimum": 5, "maximum": 1000}})",
     [](const Json& v) {
       for (const auto& [key, value] : v.as_object()) {
         if (!is_whole(value, 6, 1000)) return false;
       }
       return true;
     }},
    {R"({"allOf": [{"type": "object", "properties": {"x": {"type": "null"}}, "required": ["x"]},
        {"properties": {"y": {"const": 1}}, "required": ["y"]}]})",
     [](const Json& v) { return at(v, "x").is_null() && is_whole(at(v, "y"), 1, 1); }},
    {R"({"type": "object", "properties": {"a": {"type": "null"}, "ab\"": {"const": "é"}}, "required": ["a", "z"],
        "additionalProperties": {"type": "integer"}})",
     [](const Json& v) {
       for (const auto& [key, value] : v.as_object()) {
         if (key == "a" ? !value.is_null() : key == "ab\"" ? value != "é" : !value.is_number())
           return false;
       }
       return at(v, "z").is_number();
     }},
    {R"({"type": "object", "patternProperties": {"^[a-c]+$": {"type": "boolean"}}})",
     [](const Json& v) {
       for (const auto& [key, value] : v.as_object()) {
         if (key.empty() || std::string(key).find_first_not_of("abc") != std::string::npos ||
             !value.is_bool())
           return false;
       }
       return true;
     }},
    {R"({"type": "string", "enum": [1, "one", null, "two"], "nullable": true})",
     [](const Json& v) { return v.is_null() || v == "one" || v == "two"; }},
    {R"({"type": "string", "pattern": "b$|^a"})",
     [](const Json& v) { return v.as_string().starts_with("a") || v.as_string().ends_with("b"); }},
    {R"({"type": "number", "exclusiveMinimum": 0, "maximum": 3})",
     [](const Json& v) { return v.to_number<double>() > 0 && v.to_number<double>() <= 3; }},
    {R"({"allOf": [{"$ref": "#/definitions/t"}], "definitions": {"t": {"type": "array", "items": {"$ref": "#"}}}})",
     [](const Json& v) { return v.is_array(); }},
};

TEST(Grammar, JsonFollowsItsSchemaForEveryTokenizer) {
  size_t ended = 0;
  for (const std::string& name : kTokenizers) {
    Compiler c(name);
    for (const SchemaCase& s : kSchemas) {
      if (!c.can_write(Kind::kJsonSchema, s.schema)) continue;
      for (uint64_t seed = 1; seed <= 4; ++seed) {
        SCOPED_TRACE(fmt::format("{} seed {} {}", name, seed, s.schema));
        const std::string output =
            random_output(c, grammar::parse_json_schema(s.schema), Kind::kJsonSchema, s.schema,
                          seed, /*check_masks=*/seed == 1);
        if (output.ends_with("<no end>")) continue;
        ++ended;
        const Result<Json> parsed = parse_json(output, {.depth_max = 512});
        if (!parsed.ok() && parsed.status().message().find("duplicate") != std::string::npos)
          continue;
        ASSERT_TRUE(parsed.ok()) << parsed.status().message() << ": " << output;
        EXPECT_TRUE(s.valid(*parsed)) << output;
      }
    }
    const std::string any = random_output(c, grammar::any_json_object(), Kind::kJsonObject, "", 5,
                                          /*check_masks=*/true);
    EXPECT_TRUE(any.starts_with("{"));
    if (::testing::Test::HasFailure()) return;
  }
  EXPECT_GT(ended, 200u);
}

TEST(Grammar, IntegerRangesAreExact) {
  for (const auto& [low, high] : std::vector<std::pair<int, int>>{{0, 0},
                                                                  {0, 9},
                                                                  {7, 7},
                                                                  {3, 42},
                                                                  {99, 101},
                                                                  {-5, 5},
                                                                  {-120, -7},
                                                                  {-1, 0},
                                                                  {10, 1000},
                                                                  {123, 4567}}) {
    const std::string schema =
        fmt::format("{{\"type\": \"integer\", \"minimum\": {}, \"maximum\": {}}}", low, high);
    grammar::Automaton automaton = *grammar::Automaton::make(grammar::parse_json_schema(schema));
    for (int n = -1300; n <= 5000; ++n) {
      grammar::Automaton::State state = automaton.start();
      for (const char b : std::to_string(n)) state = automaton.next(state, static_cast<uint8_t>(b));
      EXPECT_EQ(state != grammar::Automaton::kDead && automaton.accepts(state),
                n >= low && n <= high)
          << n << " in " << low << ".." << high;
    }
  }
}

bool matches(const grammar::Grammar& g, const std::string& text) {
  grammar::Automaton automaton = *grammar::Automaton::make(g);
  grammar::Automaton::State state = automaton.start();
  for (const char b : text) state = automaton.next(state, static_cast<uint8_t>(b));
  return state != grammar::Automaton::kDead && automaton.accepts(state);
}

// Every number with up to two digits after its point, against f64.
TEST(Grammar, NumberRangesAreExact) {
  for (const bool low_included : {false, true}) {
    for (const bool high_included : {false, true}) {
      for (const auto& [low, high] : std::vector<std::pair<int, int>>{
               {0, 1}, {-1, 0}, {-2, 3}, {3, 12}, {-12, -3}, {0, 0}, {-7, -7}, {9, 10}}) {
        if (low == high && !(low_included && high_included)) continue;
        const grammar::Grammar g = grammar::parse_json_schema(
            fmt::format(R"({{"type": "number", "{}": {}, "{}": {}}})",
                        low_included ? "minimum" : "exclusiveMinimum", low,
                        high_included ? "maximum" : "exclusiveMaximum", high));
        grammar::Automaton automaton = *grammar::Automaton::make(g);
        for (int n = -1500; n <= 1500; ++n) {
          std::vector<std::string> spellings = {
              fmt::format("{}{}.{:02}", n < 0 ? "-" : "", std::abs(n) / 100, std::abs(n) % 100)};
          if (n % 100 == 0) spellings.push_back(std::to_string(n / 100));
          if (n == 0) spellings.push_back("-0.0");
          const bool inside = (low_included ? n >= 100 * low : n > 100 * low) &&
                              (high_included ? n <= 100 * high : n < 100 * high);
          for (const std::string& text : spellings) {
            grammar::Automaton::State state = automaton.start();
            for (const char b : text) state = automaton.next(state, static_cast<uint8_t>(b));
            const bool accepted = state != grammar::Automaton::kDead && automaton.accepts(state);
            // Whether zero may have a sign is not said.
            if (text.starts_with("-0.0") && n == 0 && !accepted) continue;
            EXPECT_EQ(accepted, inside)
                << text << " in " << low << ".." << high << " " << low_included << high_included;
          }
        }
      }
    }
  }
}

TEST(Grammar, FormatsAreStrict) {
  const struct {
    const char* format;
    std::vector<std::string> good, bad;
  } cases[] = {
      {"date",
       {"2024-02-29", "2000-02-29", "2023-04-30", "1999-12-31"},
       {"2023-02-29", "1900-02-29", "2023-04-31", "2023-13-01", "2023-1-01", "2024-02-30"}},
      {"time", {"23:59:59Z", "00:00:00.123+05:30"}, {"24:00:00Z", "12:60:00Z", "12:00:00"}},
      {"date-time", {"2024-02-29T12:00:00Z"}, {"2024-02-29 12:00:00Z", "2024-02-29T12:00:00"}},
      {"uuid",
       {"123e4567-e89b-12d3-a456-426614174000"},
       {"123e4567e89b12d3a456426614174000", "123e4567-e89b-12d3-a456-42661417400g"}},
      {"email", {"a.b+c@example.org"}, {"a..b@example.org", "a@b", "@example.org", "a@-x.org"}},
      {"ipv4", {"0.0.0.0", "255.249.100.9"}, {"256.1.1.1", "01.1.1.1", "1.1.1"}},
      {"hostname", {"a", "x-1.example.org"}, {"-a", "a-", "a..b", ""}},
      {"uri", {"https://example.org:80/a%20b?q=1#x"}, {"example.org", "http://a/%2", "http://a b"}},
  };
  for (const auto& c : cases) {
    const grammar::Grammar g = grammar::parse_json_schema(
        fmt::format(R"({{"type": "string", "format": "{}"}})", c.format));
    for (const std::string& text : c.good) EXPECT_TRUE(matches(g, '"' + text + '"')) << text;
    for (const std::string& text : c.bad) EXPECT_FALSE(matches(g, '"' + text + '"')) << text;
  }
}

TEST(Grammar, StringsAreAllThatJsonHas) {
  const grammar::Grammar g =
      grammar::parse_json_schema(R"({"type": "string", "minLength": 1, "maxLength": 1})");
  for (const char* one : {R"("a")", R"("é")", R"("日")", R"("😀")", R"("\n")", R"("\"")", R"("\/")",
                          R"("\u0000")", R"("\u00e9")", R"("\uD83D\uDe00")", R"("\uffff")"})
    EXPECT_TRUE(matches(g, one)) << one;
  for (const char* none : {R"("")", R"("ab")", R"("\x")", "\"\n\"", R"("\ud83d")", R"("\ude00")",
                           R"("\ud83d\u0041")", "\"\xff\"", "\"\xed\xa0\x80\"", R"("\u12")"})
    EXPECT_FALSE(matches(g, none)) << none;
}

// Properties that are not described may not have the name of one that is, however it is spelled.
TEST(Grammar, OtherPropertiesHaveOtherNames) {
  const grammar::Grammar g = grammar::parse_json_schema(
      R"({"properties": {"ab": {"type": "null"}, "ac": {"type": "null"}}, "additionalProperties": {"type": "integer"}})");
  for (const char* good : {R"({})", R"({"ab": null})", R"({"ab": null, "abc": 1})",
                           R"({"a": 1, "": 2})", R"({"ac":null,"é\n":5})", R"({"b": 1})"})
    EXPECT_TRUE(matches(g, good)) << good;
  for (const char* bad :
       {R"({"ab": 1})", R"({"x": 1, "ac": 2})", R"({"a\u0062": 1})", R"({"x": null})"})
    EXPECT_FALSE(matches(g, bad)) << bad;
}

// References that fan out are rules, not copies; those in allOf are bounded.
TEST(Grammar, SchemasThatGrowAreBounded) {
  EXPECT_TRUE(matches(
      grammar::parse_json_schema(
          R"({"$defs": {"a": {"type": "object", "properties": {"x": {"allOf": [{"$ref": "#/$defs/a"}]},
              "y": {"allOf": [{"$ref": "#/$defs/a"}]}}}}, "$ref": "#/$defs/a"})"),
      R"({"x": {"y": {}}, "y": {}})"));
  std::string chain = R"({"$ref": "#/$defs/n0", "$defs": {)";
  for (int i = 0; i < 4000; ++i)
    chain +=
        fmt::format(R"("n{}": {{"type": "array", "items": {{"$ref": "#/$defs/n{}"}}}},)", i, i + 1);
  chain += R"("n4000": {"const": 1}}})";
  EXPECT_TRUE(matches(grammar::parse_json_schema(chain), "[[[]]]"));
  Compiler c("gpt2");
  EXPECT_NE(
      c.error(
           Kind::kJsonSchema,
           R"({"$defs": {"a": {"type": "object", "properties": {"x": {"allOf": [{"$ref": "#/$defs/a"}, {}]},
              "y": {"allOf": [{"$ref": "#/$defs/a"}, {}]}}}}, "$ref": "#/$defs/a"})")
          .find("nested too deep"),
      std::string::npos);
}

TEST(Grammar, GbnfIsRead) {
  const std::string chess = R"(# moves
root ::= "1. " move " " move "\n" ([1-9] [0-9]? ". " move " " move "\n")+
move ::= (pawn | nonpawn | castle) [+#]?
pawn ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBKQR])?
nonpawn ::= [NBKQR] [a-h]? [1-8]? "x"? [a-h] [1-8]
castle ::= "O-O" "-O"?
)";
  grammar::Automaton automaton = *grammar::Automaton::make(grammar::parse_gbnf(chess));
  const auto accepts = [&](const std::string& text) {
    grammar::Automaton::State state = automaton.start();
    for (const char b : text) state = automaton.next(state, static_cast<uint8_t>(b));
    return state != grammar::Automaton::kDead && automaton.accepts(state);
  };
  EXPECT_TRUE(accepts("1. e4 e5\n2. Nf3 Nc6\n"));
  EXPECT_TRUE(accepts("1. e4 e5\n2. O-O-O+ exd5\n3. a8=Q# Kxe2\n"));
  EXPECT_FALSE(accepts("1. e4 e5\n"));
  EXPECT_FALSE(accepts("1. e9 e5\n2. Nf3 Nc6\n"));
  Compiler c("llama3");
  const std::string output =
      random_output(c, grammar::parse_gbnf(chess), Kind::kGrammar, chess, 11, true);
  if (!output.ends_with("<no end>")) {
    EXPECT_TRUE(accepts(output)) << output;
  }
  // Nested brackets of any depth; alternatives that go on in the next line; {m,n}; classes.
  const std::string nested = "root ::= \"(\" root \")\" | [^()]{0,2}\n  | \"\\u00e9\" . ";
  grammar::Automaton brackets = *grammar::Automaton::make(grammar::parse_gbnf(nested));
  grammar::Automaton::State state = brackets.start();
  for (int i = 0; i < 2000; ++i) state = brackets.next(state, '(');
  for (int i = 0; i < 2000; ++i) state = brackets.next(state, ')');
  EXPECT_TRUE(brackets.accepts(state));
}

TEST(Grammar, ChoicesAreTheirStrings) {
  Compiler c("qwen2");
  const auto constraint = c.make(Kind::kChoice, R"(["yes", "no", "yes!"])");
  std::string output;
  std::vector<std::string> seen;
  for (uint64_t seed = 1; seed < 30; ++seed)
    seen.push_back(random_output(c, grammar::parse_choice(R"(["yes", "no", "yes!"])"),
                                 Kind::kChoice, R"(["yes", "no", "yes!"])", seed, false));
  for (const char* each : {"yes", "no", "yes!"})
    EXPECT_NE(std::find(seen.begin(), seen.end(), each), seen.end()) << each;
  for (const std::string& s : seen) EXPECT_TRUE(s == "yes" || s == "no" || s == "yes!") << s;
}

// What is known is bounded: an automaton that begins anew gives the same masks.
TEST(Grammar, BeginsAnewWhenItKnowsTooMuch) {
  GrammarLimits small;
  small.automaton.stacks_max = 50;
  small.mask_bytes_max = 4096;
  Compiler tight("llama2", small), wide("llama2");
  const std::string schema = kSchemas[0].schema;
  const auto a = tight.make(Kind::kJsonSchema, schema), b = wide.make(Kind::kJsonSchema, schema);
  std::mt19937_64 random(3);
  for (int step = 0; step < 40; ++step) {
    const std::vector<uint32_t> mask = tight.mask(*a);
    ASSERT_EQ(mask, wide.mask(*b)) << step;
    std::vector<int32_t> choices;
    for (int32_t id = 0; id < tight.vocab; ++id) {
      if (allowed(mask, id) && id != tight.eos) choices.push_back(id);
    }
    if (choices.empty()) break;
    const int32_t token = choices[random() % choices.size()];
    a->accept(token);
    b->accept(token);
  }
}

// A chain of rules as long as a text may hold is read in a moment, and so is one that repeats what
// may be nothing.
TEST(Grammar, LongGrammarsTakeLinearTime) {
  std::string chain = "root ::= r0\n";
  constexpr int kRules = 30000;
  for (int i = 0; i < kRules; ++i)
    chain += fmt::format("r{} ::= r{} \"a\"? | r{}\n", i, i + 1, i + 1);
  chain += fmt::format("r{} ::= \"b\"\n", kRules);
  const Result<grammar::Automaton> nested = grammar::Automaton::make(grammar::parse_gbnf(chain));
  EXPECT_FALSE(nested.ok()) << "its beginning leads to every rule";
  std::string list = "root ::= e0*\n";
  for (int i = 0; i < kRules; ++i) list += fmt::format("e{} ::= e{}? \n", i, i + 1);
  list += fmt::format("e{} ::= \"b\"\n", kRules);
  Result<grammar::Automaton> empty = grammar::Automaton::make(grammar::parse_gbnf(list));
  ASSERT_TRUE(empty.ok()) << empty.status().message();
  EXPECT_TRUE(empty->accepts(empty->next(empty->next(empty->start(), 'b'), 'b')));
}

// A vocabulary without tokens for bytes cannot write every character: what would end there is not
// begun.
TEST(Grammar, WritesWithWhatTheVocabularyHas) {
  // The model has only the first six ids of it.
  std::string vocab = "1 'a' 1\n2 'b' 1\n3 '\u00e9' 2\n4 'ab' 2\n5 b'\\xc3' 1\n";
  for (int byte = 0, id = 6; byte < 256; ++byte) {
    if (byte != 'a' && byte != 'b' && byte != 0xC3)
      vocab += fmt::format("{} b'\\x{:02x}' 1\n", id++, byte);
  }
  auto tokens = parse_rwkv_vocab(vocab);
  ASSERT_TRUE(tokens.ok()) << tokens.status().message();
  GrammarCompiler compiler(**tokens, {0}, 6);
  const auto first = [&](const std::string& regex) -> std::string {
    auto made = compiler.compile({Kind::kRegex, regex});
    if (!made.ok()) return made.status().message();
    std::vector<uint32_t> mask(1);
    EXPECT_TRUE((*made)->fill_mask(mask).ok());
    std::string ids;
    for (int32_t id = 0; id < 6; ++id) ids += allowed(mask, id) ? std::to_string(id) : "";
    return ids;
  };
  EXPECT_EQ(first("abc|b|\u00e9"), "23");
  EXPECT_EQ(first(".*"), "01234");
  EXPECT_EQ(first("[\u00e8-\u00ea]"), "3");
  EXPECT_EQ(first("abc"),
            "the regular expression: it has no sentence that ends and that the vocabulary can "
            "write");
}

TEST(Grammar, SaysWhatIsWrong) {
  Compiler c("gpt2");
  const auto expect = [&](Kind kind, const std::string& text, const std::string& message) {
    const std::string said = c.error(kind, text);
    EXPECT_NE(said.find(message), std::string::npos) << text << " gave: " << said;
  };
  expect(Kind::kRegex, "a(b", "at byte 3: ')' is missing");
  expect(Kind::kRegex, "a)", "')' closes nothing");
  expect(Kind::kRegex, "*a", "nothing to repeat");
  expect(Kind::kRegex, "(?=a)b", "not regular");
  expect(Kind::kRegex, "(a)\\1", "'\\1' is not supported");
  expect(Kind::kRegex, "[z-a]", "runs backwards");
  expect(Kind::kRegex, "[a", "a class has no end");
  expect(Kind::kRegex, "a{2}{3}", "a quantifier follows a quantifier");
  expect(Kind::kRegex, "a(b$|c)", "'$' is only at the end");
  expect(Kind::kRegex, "[^\\d\\D]", "no sentence that ends");
  expect(Kind::kRegex, "(a?){10000}(b?){10000}", "ambiguous");
  expect(Kind::kRegex, "\\", "an escape has no end");
  expect(Kind::kRegex, "a{5,2}", "below the first");
  expect(Kind::kRegex, "a{99999}", "above 10000");
  std::string many;
  for (int k = 0; k < 200; ++k) many += "a{9999}";
  expect(Kind::kRegex, many, "elements");
  expect(Kind::kRegex, std::string(500, '(') + "a" + std::string(500, ')'), "nested too deep");
  expect(Kind::kRegex, "\xff", "not UTF-8");
  expect(Kind::kGrammar, "", "define root");
  expect(Kind::kGrammar, "root ::= a", "the rule 'a' is not defined");
  expect(Kind::kGrammar, "root ::= root \"a\" | \"b\"", "the rule 'root' can begin with itself");
  expect(Kind::kGrammar, "root ::= b\nb ::= n c\nc ::= b n | \"x\"\nn ::= \"y\" | ",
         "can begin with itself");
  expect(Kind::kGrammar, "root ::= [a-", "ends too early");
  expect(Kind::kGrammar, "root ::= \"a\"" + std::string(100, '*'), "too many quantifiers");
  expect(Kind::kGrammar, "root ::= \"a", "a string has no end");
  expect(Kind::kGrammar, "root = \"a\"", "'::=' is missing");
  expect(Kind::kGrammar, "root ::= \"a\"\nroot ::= \"b\"", "defined twice");
  expect(Kind::kGrammar, "root ::= \"a\" root", "no sentence");
  expect(Kind::kChoice, "[]", "at least one string");
  expect(Kind::kChoice, "[1]", "no string");
  expect(Kind::kJsonSchema, "{", "the JSON schema: ");
  expect(Kind::kJsonSchema, "5", "at #: a schema has to be an object");
  expect(Kind::kJsonSchema, R"({"type": "date"})", "'date' is no type of JSON");
  expect(Kind::kJsonSchema, R"({"type": "object", "properties": {"a": {"not": {}}}})",
         "at #/properties/a: the keyword 'not' is not supported");
  expect(Kind::kJsonSchema, R"({"$ref": "#/nowhere"})", "nothing at #/nowhere");
  expect(Kind::kJsonSchema, R"({"$ref": "http://x"})", "into this schema");
  expect(Kind::kJsonSchema, R"({"$ref": "#"})", "no sentence");
  expect(Kind::kJsonSchema, R"({"type": "number", "minimum": 0.5})",
         "at #/minimum: it has to be an integer");
  expect(Kind::kJsonSchema, R"({"type": "number", "minimum": 2, "exclusiveMaximum": 2})",
         "no number");
  expect(Kind::kJsonSchema, R"({"type": "integer", "multipleOf": 2})",
         "'multipleOf' is not supported");
  expect(Kind::kJsonSchema, R"({"$ref": "#/$defs/a", "minLength": 2, "$defs": {"a": {}}})",
         "'minLength' beside '$ref' is not supported");
  expect(Kind::kJsonSchema, R"({"anyOf": [{}], "type": "string"})", "'type' beside 'anyOf'");
  expect(Kind::kJsonSchema, R"({"enum": [1], "type": "string"})", "that the type allows");
  expect(Kind::kJsonSchema, R"({"required": ["a"], "additionalProperties": false})",
         "'a' is required, and no property may have that name");
  expect(Kind::kJsonSchema, R"({"patternProperties": {"a": {}, "b": {}}})", "one pattern");
  expect(Kind::kJsonSchema, R"({"type": "string", "format": "date", "maxLength": 3})",
         "format together with a length");
  expect(Kind::kJsonSchema, R"({"type": "array", "items": false, "minItems": 1})",
         "items is false");
  expect(Kind::kJsonSchema, R"({"type": "integer", "minimum": 5, "maximum": 4})", "no integer");
  expect(Kind::kJsonSchema, R"({"type": "string", "format": "color"})", "'color' is not supported");
  expect(Kind::kJsonSchema, R"json({"type": "string", "pattern": "(?=a)"})json",
         "at #/pattern: at byte");
  expect(Kind::kJsonSchema, R"({"enum": []})", "at least one value");
  Compiler endless("gpt2");
  GrammarCompiler without(*endless.tokens, {}, endless.vocab);
  EXPECT_NE(without.compile({Kind::kJsonObject, ""}).status().message().find("no end token"),
            std::string::npos);
}

}  // namespace
}  // namespace trireme
