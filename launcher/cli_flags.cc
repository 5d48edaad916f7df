// The flags that set keys of the YAML schema.
#include "launcher/cli_subcommand.h"

namespace trireme {
namespace {

using Takes = KeyFlag::Takes;

constexpr KeyFlag kModelFlags[] = {
    {"-m,--model", "model.path", Takes::kOne, "PATH"},
    {"--tokenizer", "model.tokenizer", Takes::kOne, "PATH"},
};
constexpr KeyFlag kEngineFlags[] = {
    {"--dtype", "model.dtype", Takes::kOne, "TYPE"},
    {"--quantization", "model.quantization", Takes::kOne, "TYPE"},
    {"--load-format", "model.load_format", Takes::kOne, "FORMAT"},
    {"--max-model-len", "model.max_model_len", Takes::kOne, "N"},
    {"--device", "engine.device", Takes::kOne, "DEVICE"},
    {"--tensor-parallel-size", "engine.tensor_parallel_size", Takes::kOne, "N"},
    {"--pipeline-parallel-size", "engine.pipeline_parallel_size", Takes::kOne, "N"},
    {"--threads", "engine.threads", Takes::kOne, "N"},
    {"--prefill-chunk", "engine.prefill_chunk", Takes::kOne, "N"},
    {"--kv-cache-dtype", "engine.kv_cache_dtype", Takes::kOne, "TYPE"},
    {"--isa", "engine.isa", Takes::kOne, "SET"},
    {"--enforce-eager", "engine.enforce_eager", Takes::kNothing},
    {"--gpu-memory-utilization", "engine.gpu_memory_utilization", Takes::kOne, "SHARE"},
};
constexpr KeyFlag kGenerateFlags[] = {
    {"-p,--prompt", "generate.prompts", Takes::kList, "TEXT"},
    {"--prompt-file", "generate.prompt_file", Takes::kOne, "FILE"},
    {"--max-tokens", "generate.max_tokens", Takes::kOne, "N"},
    {"--temperature", "sampling.temperature", Takes::kOne, "T"},
    {"--top-p", "sampling.top_p", Takes::kOne, "P"},
    {"--top-k", "sampling.top_k", Takes::kOne, "K"},
    {"--min-p", "sampling.min_p", Takes::kOne, "P"},
    {"--repetition-penalty", "sampling.repetition_penalty", Takes::kOne, "X"},
    {"--presence-penalty", "sampling.presence_penalty", Takes::kOne, "X"},
    {"--frequency-penalty", "sampling.frequency_penalty", Takes::kOne, "X"},
    {"--logit-bias", "sampling.logit_bias", Takes::kMap, "ID=X"},
    {"--stop", "sampling.stop", Takes::kList, "TEXT"},
    {"--stop-token-id", "sampling.stop_token_ids", Takes::kList, "ID"},
    {"--ignore-eos", "sampling.ignore_eos", Takes::kNothing},
    {"--min-tokens", "sampling.min_tokens", Takes::kOne, "N"},
    {"--seed", "sampling.seed", Takes::kOne, "N"},
};

constexpr KeyFlag kServeFlags[] = {
    {"--host", "gateway.host", Takes::kOne, "ADDRESS"},
    {"--port", "gateway.port", Takes::kOne, "N"},
    {"--api-keys-file", "gateway.api_keys_file", Takes::kOne, "FILE"},
    {"--served-model-name", "model.served_model_name", Takes::kList, "NAME"},
    {"--chat-template", "model.chat_template", Takes::kOne, "FILE"},
    {"--max-num-seqs", "engine.max_num_seqs", Takes::kOne, "N"},
    {"--max-num-batched-tokens", "engine.max_num_batched_tokens", Takes::kOne, "N"},
    {"--max-queue", "engine.max_queue", Takes::kOne, "N"},
    {"--scheduling-policy", "engine.scheduling_policy", Takes::kOne, "POLICY"},
    {"--cpu-kv-cache-space", "engine.cpu_kv_cache_space", Takes::kOne, "SIZE"},
    {"--kv-cache-memory-bytes", "engine.kv_cache_memory_bytes", Takes::kOne, "SIZE"},
};

}  // namespace

std::span<const KeyFlag> model_flags() { return kModelFlags; }
std::span<const KeyFlag> engine_flags() { return kEngineFlags; }
std::span<const KeyFlag> generate_flags() { return kGenerateFlags; }
std::span<const KeyFlag> serve_flags() { return kServeFlags; }

}  // namespace trireme
