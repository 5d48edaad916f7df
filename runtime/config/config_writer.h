// A Deployment as its file would be: what `trireme config print` shows. Reading it back gives the
// same Deployment.
#pragma once

#include <string>

#include "runtime/config/deployment.h"

namespace trireme {

// Every key with its value. `origins`: behind each, where it was said: "# default",
// "# file.yaml:3:5", "# --port".
std::string write_config(const Deployment& deployment, bool origins);

// The JSON Schema of deployment files, for editors: what it refuses the reader refuses too.
std::string config_json_schema();

}  // namespace trireme
