// Every key of a deployment file, one entry each: its type, its default, what it means and how it
// gets into a Deployment. The reader, the command line, --set and configs/README.md all go by this
// table; a key is added by one entry.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/config/config_node.h"
#include "runtime/config/deployment.h"

namespace trireme {

struct ConfigKey {
  std::string path;      // "engine.max_num_seqs"; "groups[].name": of each item of a list
  std::string type;      // as configs/README.md shows it: "integer, 1 to 4096"
  std::string fallback;  // the default, as configs/README.md shows it
  std::string meaning;
  // Puts a value in. null means the default. Errors begin with the node's place.
  std::function<Status(const ConfigNode&, Deployment&)> set;
  // Its value as YAML that `set` reads: "64MiB", "[\"a\", \"b\"]".
  std::function<std::string(const Deployment&)> get;
  std::string json_schema;       // of a value that is not null: {"type": "integer", ...}
  bool is_path = false;          // relative to the current folder, else to the file's
  std::string_view rivals = {};  // of all keys with the same (non-empty) word one may be given
};

// In the order in which a file is usually written.
std::span<const ConfigKey> config_schema();

// The entry, or nullptr.
const ConfigKey* find_config_key(std::string_view path);

// The rows of the table in configs/README.md, one line per key.
std::string config_table();

}  // namespace trireme
