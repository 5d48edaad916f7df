// The rotary embedding that a Hugging Face config describes (transformers modeling_rope_utils.py).
#pragma once

#include "runtime/model/families/config_reader.h"
#include "runtime/model/spec.h"

namespace trireme {

// Reads rope_theta, rope_scaling or rope_parameters, partial_rotary_factor. Kinds: default, linear,
// dynamic (the static rule: the length is max_position_embeddings from the first token on, so that
// cached keys stay valid), yarn, llama3. Anything else fails `config`, naming the field.
RopeSpec read_rope(ConfigReader& config, int64_t head_dim, int64_t context_max,
                   double default_theta);

// YOCO's table: theta^(-i / (n - 1)) for i in [0, n), n = head_dim / 2, on interleaved pairs (unilm
// YOCO/yoco/models/decoder: torch.linspace(0, 1, head_dim / 2)).
RopeSpec yoco_rope(int64_t head_dim, double theta);

// theta^(-2 i / rotary_dim).
std::vector<double> default_frequencies(int64_t rotary_dim, double theta);

}  // namespace trireme
