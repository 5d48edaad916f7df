#include "runtime/gateway/constraint_fields.h"

#include <boost/json/serialize.hpp>

namespace trireme {
namespace {

constexpr size_t kAlternativesMax = 4096;

// What has been said so far, and where.
struct Said {
  ConstraintSpec spec;
  std::string field;
  int times = 0;

  void say(std::string where, ConstraintSpec::Kind kind, std::string text = {}) {
    spec = {kind, std::move(text)};
    field = std::move(where);
    ++times;
  }
};

// A JSON schema as an object, or as the text of one.
std::string schema_text(const Json& value) {
  return value.is_string() ? std::string(value.get_string()) : boost::json::serialize(value);
}

void read_response_format(FieldReader& in, Said& said) {
  const JsonObject* format = in.object("response_format");
  if (format == nullptr) return;
  FieldReader inner(*format, "response_format");
  const std::string type = inner.choice("type", "", {"text", "json_object", "json_schema"});
  if (type == "json_object") {
    if (const Json* schema = inner.find("schema")) {  // llama-server's
      said.say("response_format", ConstraintSpec::Kind::kJsonSchema, schema_text(*schema));
    } else {
      said.say("response_format", ConstraintSpec::Kind::kJsonObject);
    }
  } else if (type == "json_schema") {
    const JsonObject* named = inner.object("json_schema");
    const Json* schema = named == nullptr ? nullptr : FieldReader(*named, "").find("schema");
    if (schema == nullptr) {
      inner.fail("json_schema", "must be an object with a member 'schema'");
    } else {
      said.say("response_format", ConstraintSpec::Kind::kJsonSchema, schema_text(*schema));
    }
  }
  in.adopt(inner);
}

// {json | regex | choice | grammar | json_object}, of which one; and the same as guided_json and so
// on, as older clients of vLLM say it.
void read_structured(FieldReader& in, const std::string& prefix, Said& said) {
  const auto where = [&](const char* name) { return in.path_of(prefix + name); };
  if (const Json* json = in.find(prefix + "json"))
    said.say(where("json"), ConstraintSpec::Kind::kJsonSchema, schema_text(*json));
  if (in.has(prefix + "regex"))
    said.say(where("regex"), ConstraintSpec::Kind::kRegex, in.string(prefix + "regex", ""));
  if (in.has(prefix + "choice")) {
    if (const JsonArray* list = in.array(prefix + "choice", kAlternativesMax))
      said.say(where("choice"), ConstraintSpec::Kind::kChoice, boost::json::serialize(*list));
  }
  if (in.has(prefix + "grammar"))
    said.say(where("grammar"), ConstraintSpec::Kind::kGrammar, in.string(prefix + "grammar", ""));
  if (in.boolean(prefix + "json_object", false))
    said.say(where("json_object"), ConstraintSpec::Kind::kJsonObject);
}

}  // namespace

void read_constraint(FieldReader& in, ConstraintSpec& out, std::string& field) {
  Said said;
  read_response_format(in, said);
  if (const JsonObject* structured = in.object("structured_outputs")) {
    FieldReader inner(*structured, "structured_outputs");
    read_structured(inner, "", said);
    in.adopt(inner);
  }
  read_structured(in, "guided_", said);
  if (in.has("grammar"))  // llama-server's
    said.say("grammar", ConstraintSpec::Kind::kGrammar, in.string("grammar", ""));
  if (const Json* schema = in.find("json_schema"))
    said.say("json_schema", ConstraintSpec::Kind::kJsonSchema, schema_text(*schema));
  if (said.times > 1)
    in.fail("structured_outputs", "says the form of the output more than once: keep one");
  out = std::move(said.spec);
  field = std::move(said.field);
}

}  // namespace trireme
