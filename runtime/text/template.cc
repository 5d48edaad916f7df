#include "runtime/text/template.h"

namespace trireme {
namespace {

constexpr size_t kTemplateTokensMax = 4096;

// The ids of special_tokens[name].
Status append_special(const JsonField& special_tokens, const std::string& name, int32_t ids_end,
                      std::vector<int32_t>& ids) {
  const JsonField token = special_tokens[name];
  if (!token.has_value()) return token.error("is missing, but the template uses it");
  const JsonField list = token["ids"];
  Result<const JsonArray*> items = list.array();
  if (!items.ok()) return items.status();
  for (size_t i = 0; i < (*items)->size(); ++i) {
    Result<int64_t> id = list[i].integer(int64_t{ids_end} - 1);
    if (!id.ok()) return id.status();
    ids.push_back(static_cast<int32_t>(*id));
    if (ids.size() > kTemplateTokensMax) {
      return list.error(fmt::format("makes a template of more than {} tokens", kTemplateTokensMax));
    }
  }
  return {};
}

}  // namespace

Result<Template> Template::parse(const JsonField& field, int32_t ids_end) {
  Template result;
  if (!field.has_value()) return result;
  Status status = result.parse_processor(field, ids_end);
  if (!status.ok()) return status;
  return result;
}

Status Template::parse_processor(const JsonField& field, int32_t ids_end) {
  Result<std::string> type = field["type"].string();
  if (!type.ok()) return type.status();
  if (*type == "ByteLevel") return {};  // changes offsets only, which nobody here asks for
  if (*type == "TemplateProcessing") return parse_template(field, ids_end);
  if (*type == "Sequence") {
    const JsonField list = field["processors"];
    Result<const JsonArray*> items = list.array();
    if (!items.ok()) return items.status();
    for (size_t i = 0; i < (*items)->size(); ++i) {
      Status status = parse_processor(list[i], ids_end);
      if (!status.ok()) return status;
    }
    return {};
  }
  return unimplemented(fmt::format(
      "{}.type '{}' is not supported; Trireme reads TemplateProcessing, ByteLevel and Sequence",
      field.path(), *type));
}

Status Template::parse_template(const JsonField& field, int32_t ids_end) {
  if (found_) return field.error("is a second template; one is supported");
  found_ = true;
  const JsonField list = field["single"];
  Result<const JsonArray*> items = list.array();
  if (!items.ok()) return items.status();
  bool text_seen = false;
  for (size_t i = 0; i < (*items)->size(); ++i) {
    const JsonField item = list[i];
    const JsonField special = item["SpecialToken"];
    const JsonField sequence = item["Sequence"];
    Result<std::string> id = (special.has_value() ? special : sequence)["id"].string();
    if (!id.ok()) return id.status();
    if (special.has_value()) {
      Status status =
          append_special(field["special_tokens"], *id, ids_end, text_seen ? after_ : before_);
      if (!status.ok()) return status;
    } else if (*id != "A" || text_seen) {
      return item.error("has to be the one place of the sequence A");
    } else {
      text_seen = true;
    }
  }
  if (!text_seen) return list.error("has no place for the sequence A");
  return {};
}

}  // namespace trireme
