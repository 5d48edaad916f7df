// From a checkpoint's config or its tensors' names to a ModelSpec: all that is particular to a
// family. One file per family; one line each in families.cc.
#pragma once

#include <string>

#include "runtime/model/families/config_reader.h"
#include "runtime/model/spec.h"
#include "runtime/model/weights/checkpoint.h"

namespace trireme {

// `path` is a folder with config.json, or a .safetensors file (or a folder with one and no
// config.json) under BlinkDL's names, whose version and sizes follow from names and shapes.
// `checkpoint` may be nullptr where weights are made up (load_format dummy): then config.json says
// all. Errors name the file and the field or tensor: what is not supported is refused, never
// guessed.
Result<ModelSpec> read_model_spec(const std::string& path, const Checkpoint* checkpoint);

// model_type llama, mistral, qwen2, qwen3.
Result<ModelSpec> read_gqa_spec(ConfigReader& config);

// model_type yoco, under flash-linear-attention's tensor names or unilm's flat ones.
Result<ModelSpec> read_yoco_spec(ConfigReader& config, const Checkpoint* checkpoint);

// model_type rwkv (RWKV-4) as transformers has it, and rwkv7 as flash-linear-attention has it.
Result<ModelSpec> read_rwkv4_spec(ConfigReader& config);
Result<ModelSpec> read_rwkv7_spec(ConfigReader& config, const Checkpoint* checkpoint);

// BlinkDL's names: RWKV-4 or RWKV-7; other versions are refused by name.
Result<ModelSpec> read_blink_spec(const Checkpoint& checkpoint);

}  // namespace trireme
