// The post-processor of tokenizer.json, as far as it changes ids: the tokens that go before and
// after a text (<s> and its like). Immutable; any thread.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/text/json_field.h"

namespace trireme {

class Template {
 public:
  // A field without a value adds nothing. `ids_end`: all ids are below it.
  static Result<Template> parse(const JsonField& field, int32_t ids_end);

  void append_before(std::vector<int32_t>& ids) const {
    ids.insert(ids.end(), before_.begin(), before_.end());
  }
  void append_after(std::vector<int32_t>& ids) const {
    ids.insert(ids.end(), after_.begin(), after_.end());
  }

 private:
  Status parse_processor(const JsonField& field, int32_t ids_end);
  Status parse_template(const JsonField& field, int32_t ids_end);

  bool found_ = false;
  std::vector<int32_t> before_;
  std::vector<int32_t> after_;
};

}  // namespace trireme
