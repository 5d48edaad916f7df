// A model's generation_config.json: the sampling that its makers recommend.
#pragma once

#include <string_view>

#include "kernels/base/status.h"
#include "runtime/config/deployment.h"

namespace trireme {

// Puts temperature, top_p, top_k, min_p and repetition_penalty of the file into
// deployment.sampling, each where the deployment's origins do not say that the user gave it.
// `text` is the file, `name` what messages call it. kInvalidArgument names the field that is out of
// its range and leaves the deployment as it was. Other fields, do_sample too, are not looked at, as
// vLLM does not.
Status apply_generation_config(std::string_view text, std::string_view name,
                               Deployment& deployment);

}  // namespace trireme
