// Templates against jinja2 as transformers sets it up (scripts/golden/chat_goldens.py):
// expressions, statements, white space, and the formats of model families; what it refuses is
// refused.
#include <gtest/gtest.h>

#include "kernels/base/json.h"
#include "runtime/chat/jinja/template.h"

namespace trireme::jinja {
namespace {

const JsonObject& golden() {
  static const Json json = [] {
    Result<Json> read = read_json_file(TRIREME_SOURCE_DIR "/tests/golden/data/chat/jinja.json");
    CHECK(read.ok()) << read.status().message();
    return read.take();
  }();
  return json.as_object();
}

std::string text(const Json& value) { return std::string(value.as_string()); }

Result<Text> render(const std::string& source, const Template::Globals& globals,
                    const Limits& limits = {}) {
  Result<Template> parsed = Template::parse(source, limits);
  if (!parsed.ok()) return parsed.status();
  return parsed->render(globals);
}

Template::Globals globals_of(const Json& context) {
  Template::Globals globals;
  for (const auto& [key, value] : context.as_object())
    globals.emplace_back(std::string(key), Value::from_json(value, false));
  return globals;
}

TEST(Jinja, SaysWhatJinja2Says) {
  const Template::Globals globals = globals_of(golden().at("context"));
  size_t refused = 0;
  for (const Json& c : golden().at("cases").as_array()) {
    const std::string source = text(c.at("template"));
    SCOPED_TRACE(source);
    const Result<Text> made = render(source, globals);
    if (c.at("output").is_null()) {
      EXPECT_FALSE(made.ok()) << "made '" << made->str() << "' of what jinja2 refuses";
      ++refused;
      continue;
    }
    ASSERT_TRUE(made.ok()) << made.status().message();
    EXPECT_EQ(made->str(), text(c.at("output")));
    EXPECT_FALSE(made->tainted());
  }
  EXPECT_GT(refused, 30u);
}

TEST(Jinja, WritesChatsAsModelFamiliesDo) {
  for (const Json& c : golden().at("families").as_array()) {
    const std::string family = text(c.at("family"));
    SCOPED_TRACE(family + " chat " + std::to_string(c.at("chat").to_number<int>()));
    const size_t chat = c.at("chat").to_number<size_t>();
    const bool tools = c.at("tools").as_bool();
    Template::Globals globals = {
        {"messages", Value::from_json(golden().at("chats").as_array()[chat], false)},
        {"tools", tools ? Value::from_json(golden().at("tools"), false) : Value::none()},
        {"add_generation_prompt", Value::boolean(c.at("generate").as_bool())},
        {"bos_token", Value::text("<s>")},
        {"eos_token", Value::text("</s>")}};
    const Result<Text> made = render(text(golden().at("templates").at(family)), globals);
    if (c.at("output").is_null()) {
      EXPECT_FALSE(made.ok());
      continue;
    }
    ASSERT_TRUE(made.ok()) << made.status().message();
    EXPECT_EQ(made->str(), text(c.at("output")));
  }
}

TEST(Jinja, ErrorsNameTheLine) {
  const auto error = [](const std::string& source) {
    const Result<Text> made = render(source, {});
    return made.ok() ? "ok" : made.status().message();
  };
  EXPECT_EQ(error("a\nb {{ x | nosuch }}"), "line 2: there is no filter 'nosuch'");
  EXPECT_EQ(error("\n\n{% if %}"), "line 3: expected an expression, found the end of a tag");
  EXPECT_EQ(error("{% for x in y %}"), "line 1: a block has no end: {% endfor %} is missing");
  EXPECT_EQ(error("{{ x.y }}"), "line 1: 'x' is undefined");
  EXPECT_EQ(error("{% include 'a' %}"), "line 1: {% include %} is not for chat templates");
  EXPECT_EQ(error("{{ raise_exception('in its own words') }}"), "in its own words");
}

// Templates come with models, which come from anywhere.
TEST(Jinja, HasLimits) {
  Limits limits;
  limits.steps_max = 10000;
  limits.output_bytes_max = 10000;
  const auto fails = [&](const std::string& source) {
    const Result<Text> made = render(source, {}, limits);
    return !made.ok();
  };
  EXPECT_TRUE(
      fails("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"));
  EXPECT_TRUE(fails("{{ range(1000000000) | list }}"));
  EXPECT_TRUE(fails("{{ 'x' * 1000000000 }}"));
  EXPECT_TRUE(
      fails("{% set ns = namespace(x='ab') %}{% for i in range(99) %}"
            "{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}"));
  EXPECT_TRUE(fails("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"));
  EXPECT_TRUE(fails("{{ " + std::string(100000, '(') + "1" + std::string(100000, ')') + " }}"));
  EXPECT_TRUE(fails("{% if 1 %}" + [] {
    std::string deep;
    for (int i = 0; i < 5000; ++i) deep += "{% if 1 %}";
    return deep;
  }()));
  EXPECT_TRUE(fails("{{ " + [] {
    std::string deep = "1";
    for (int i = 0; i < 5000; ++i) deep = "-" + deep;
    return deep;
  }() + " }}"));
  EXPECT_TRUE(fails("{{ 9 ** 999999999 }}"));
  EXPECT_TRUE(fails("{{ 2 ** 63 }}"));
}

// What came from a user is known to the byte through what templates do with strings, and as a whole
// where an operation loses track.
TEST(Jinja, KnowsWhatAUserSaid) {
  const Template::Globals globals = {{"m", Value::text(Text::from_user(" Hi <x> "))}};
  const auto user = [&](const std::string& source) {
    const Result<Text> made = render(source, globals);
    CHECK(made.ok()) << made.status().message();
    std::string marked;
    for (size_t i = 0, r = 0; i < made->size(); ++i) {
      while (r < made->user().size() && made->user()[r].end <= i) ++r;
      const bool inside = r < made->user().size() && made->user()[r].begin <= i;
      marked += inside ? 'u' : '.';
    }
    return made->str() + "|" + marked;
  };
  EXPECT_EQ(user("<s>{{ m }}</s>"), "<s> Hi <x> </s>|...uuuuuuuu....");
  EXPECT_EQ(user("{{ '<s>' + m | trim + '</s>' }}"), "<s>Hi <x></s>|...uuuuuu....");
  EXPECT_EQ(user("{{ m.strip()[0:2] ~ '!' }}"), "Hi!|uu.");
  EXPECT_EQ(user("{{ m.split()[1] }}"), "<x>|uuu");
  EXPECT_EQ(user("{{ m | replace('<x>', '<y>') | trim }}"), "Hi <y>|uuu...");
  EXPECT_EQ(user("{{ 'a b' | replace('a', m.strip()) }}"), "Hi <x> b|uuuuuu..");
  EXPECT_EQ(user("{{ m | upper | trim }}"), "HI <X>|uuuuuu");
  EXPECT_EQ(user("{{ [m.strip()] | tojson }}"), "[\"Hi <x>\"]|uuuuuuuuuu");
  EXPECT_EQ(user("{{ {'k': m.strip()} }}"), "{'k': 'Hi <x>'}|uuuuuuuuuuuuuuu");
  EXPECT_EQ(user("{{ ['<a>', m.strip()] | join('<b>') }}"), "<a><b>Hi <x>|......uuuuuu");
  EXPECT_EQ(user("{% set x %}<a>{{ m.strip() }}{% endset %}{{ x }}"), "<a>Hi <x>|...uuuuuu");
  EXPECT_EQ(user("{% for c in m.strip() %}{{ c }}-{% endfor %}"), "H-i- -<-x->-|u.u.u.u.u.u.");
  EXPECT_EQ(user("{{ '%s/%s' % ('a', m.strip()) }}"), "a/Hi <x>|..uuuuuu");
}

// Whatever it builds, it ends with a sentence, and what it built is freed.
TEST(Jinja, NestsNothingTooDeepAndNothingInItself) {
  const std::pair<const char*, const char*> cases[] = {
      {"{% set ns = namespace(x=0) %}{% for i in range(90000) %}{% set ns.x = [ns.x] %}{% endfor %}"
       "{{ ns.x }}",
       "nested deeper than 500"},
      {"{% set ns = namespace(x=0) %}{% for i in range(90000) %}{% set ns.x = {'a': ns.x} %}"
       "{% endfor %}{{ ns.x | tojson }}",
       "nested deeper than 500"},
      {"{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}", "cannot hold a namespace"},
      {"{% set a = namespace() %}{% set ns = namespace(x=[a]) %}", "cannot hold a namespace"},
      {"{% set ns = namespace() %}{% for i in range(3) %}{% set ns.x = loop %}{% endfor %}",
       "cannot hold a namespace"},
  };
  for (const auto& [source, sentence] : cases) {
    const Result<Text> made = render(source, {});
    ASSERT_FALSE(made.ok()) << source;
    EXPECT_NE(made.status().message().find(sentence), std::string::npos) << made.status().message();
  }
  const Result<Text> many = render(
      "{% for i in range(100000) %}{% for j in range(2) %}{% macro f() %}{% endmacro %}{% endfor %}"
      "{% endfor %}",
      {});
  ASSERT_FALSE(many.ok());
  EXPECT_NE(many.status().message().find("macros"), std::string::npos) << many.status().message();
}

// A macro stands in the frame that it sees: once neither the other way round, nothing of a
// rendering stays behind.
TEST(Jinja, ARenderingLeavesNothingBehind) {
  auto said = std::make_shared<int>(0);
  for (const char* source :
       {"{% macro f(x) %}{{ probe() }}{{ x }}{% endmacro %}{{ f(1) }}",
        "{% for i in [1, [2]] recursive %}{{ probe() }}{% endfor %}",
        "{% set ns = namespace() %}{% macro g() %}{{ ns.f }}{% endmacro %}{% set ns.f = g %}"
        "{{ probe() }}",
        "{% macro f() %}{{ caller() }}{% endmacro %}{% call f() %}{{ probe() }}{% endcall %}"}) {
    const Result<Text> made = render(
        source, {{"probe", Value::callable(
                               "probe", [said](Arguments&) { return Value::integer(++*said); })}});
    ASSERT_TRUE(made.ok()) << made.status().message();
    EXPECT_EQ(said.use_count(), 1) << source;
  }
  EXPECT_GE(*said, 4);
}

}  // namespace
}  // namespace trireme::jinja
