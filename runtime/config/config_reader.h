// From a YAML file and the words of a command line to a Deployment. The launcher calls this once,
// at start. Every error is one sentence that begins with the place: file:line:column, or the flag.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/status.h"
#include "runtime/config/config_node.h"
#include "runtime/config/deployment.h"

namespace trireme {

// Reads a file over `deployment`: keys that it does not have stay as they are. A relative path in
// it (model.path, model.tokenizer, generate.prompt_file) is relative to the current folder if it
// exists there, else to the file's folder. kNotFound: there is no such file.
Status read_config_file(const std::string& path, Deployment& deployment);

// The same from memory; `name` is what messages call it, `folder` what paths may be relative to.
Status read_config(std::string_view text, std::string_view name, const std::string& folder,
                   Deployment& deployment);

// Sets one key as the command line does. `path` is a key of the schema; the value's place is its
// flag. REQUIRES: find_config_key(path) != nullptr.
Status set_config_key(std::string_view path, const ConfigNode& value, Deployment& deployment);

// "engine.max_num_seqs=8" of --set: the value is YAML, a string may go without quotes.
Status apply_override(std::string_view assignment, Deployment& deployment);

// What several keys must be together, once all are given.
Status validate(const Deployment& deployment);

}  // namespace trireme
