// The keys of the model, the engine and the groups of workers.
#include "runtime/config/schema_kinds.h"

namespace trireme::schema {

std::vector<ConfigKey> model_keys() {
  constexpr auto s = &Deployment::model;
  using M = ModelOptions;
  return {
      path_key(
          "model.path", text(s, &M::path), "none",
          "the model: a folder (config.json, tokenizer, *.safetensors) or one checkpoint file"),
      path_key("model.tokenizer", text(s, &M::tokenizer), "null",
               "the tokenizer: a folder or a file; null = the model's own"),
      key("model.dtype", dtype(s, &M::dtype), "auto",
          "element type of the weights in memory that are not quantized; auto = as the checkpoint "
          "has them"),
      key("model.quantization",
          choice<M, std::optional<WeightType>>(s, &M::quantization,
                                               {{"auto", std::nullopt},
                                                {"int8", WeightType::kInt8},
                                                {"int4", WeightType::kInt4},
                                                {"fp8", WeightType::kFp8}}),
          "auto",
          "int8, int4, fp8 = large weights are quantized as they are loaded; auto = as the "
          "checkpoint has them, quantized or not"),
      key("model.load_format",
          choice<M, LoadFormat>(s, &M::load_format,
                                {{"auto", LoadFormat::kAuto}, {"dummy", LoadFormat::kDummy}}),
          "auto", "dummy = random weights from engine.seed: only config.json is read"),
      key("model.max_model_len", integer(s, &M::max_model_len, 1, kInt32Max), "null",
          "longest sequence, prompt and output, in tokens; null = the model's"),
      key("model.served_model_name", strings(s, &M::served_model_name), "[]",
          "names under which `serve` offers it; [] = the last part of its path"),
      path_key("model.chat_template", text(s, &M::chat_template), "null",
               "a file with the Jinja template of chats; null = the model's own"),
      key("model.generation_config",
          choice<M, GenerationConfig>(
              s, &M::generation_config,
              {{"auto", GenerationConfig::kAuto}, {"none", GenerationConfig::kNone}}),
          "auto",
          "serve: auto = the sampling that the model's generation_config.json asks for, where a "
          "request and sampling.* say nothing"),
  };
}

std::vector<ConfigKey> engine_keys() {
  constexpr auto s = &Deployment::engine;
  using E = EngineOptions;
  return {
      key("engine.device",
          choice<E, DeviceKind>(
              s, &E::device,
              {{"auto", DeviceKind::kAuto}, {"cpu", DeviceKind::kCpu}, {"cuda", DeviceKind::kCuda}},
              {{"gpu", "cuda"}}),
          "auto",
          "where the ranks compute: cuda = each on a GPU; auto = cuda where all have one, else "
          "cpu"),
      key("engine.tensor_parallel_size", integer(s, &E::tensor_parallel_size, 1, 1024), "null",
          "shards of each layer; null = 1, or the whole world under mpirun where "
          "pipeline_parallel_size is null too"),
      key("engine.pipeline_parallel_size", integer(s, &E::pipeline_parallel_size, 1, 1024), "null",
          "stages that the layers are cut into; null = 1"),
      key("engine.threads", integer(s, &E::threads, 0, 4096), "0",
          "threads of each rank; 0 = the host's cores divided by its ranks"),
      key("engine.max_num_batched_tokens", integer(s, &E::max_num_batched_tokens, 1, 1 << 20),
          "null", "most tokens that one step computes; null = 512 on the CPU, 2048 on a GPU"),
      key("engine.max_num_seqs", integer(s, &E::max_num_seqs, 1, 1 << 16), "null",
          "most sequences in one step, each with at least one token; null = 64 on the CPU, 256 on "
          "a "
          "GPU"),
      key("engine.prefill_chunk", integer(s, &E::prefill_chunk, 0, 1 << 20), "0",
          "most prompt tokens of one sequence in one step; 0 = max_num_batched_tokens"),
      key("engine.block_size", integer(s, &E::block_size, 1, 4096), "32",
          "tokens of one cache block"),
      key("engine.kv_cache_dtype", dtype(s, &E::kv_cache_dtype), "auto",
          "element type of cached keys and values; auto = the engine chooses"),
      key("engine.cpu_kv_cache_space", size(s, &E::cpu_kv_cache_space), "1GiB",
          "cpu: memory for the cache, per rank"),
      key("engine.gpu_memory_utilization", share(s, &E::gpu_memory_utilization), "0.9",
          "cuda: share of a GPU's memory that weights, workspaces and cache may fill, with what "
          "others use of it"),
      key("engine.kv_cache_memory_bytes", size(s, &E::kv_cache_memory_bytes), "null",
          "cuda: memory for the cache, per rank; null = what gpu_memory_utilization leaves"),
      key("engine.enforce_eager", boolean(s, &E::enforce_eager), "false",
          "cuda: launch each step op by op; false = steps that only decode are recorded once and "
          "replayed (CUDA graphs)"),
      key("engine.isa",
          choice<E, std::string>(
              s, &E::isa,
              {{"auto", "auto"}, {"scalar", "scalar"}, {"avx2", "avx2"}, {"avx512", "avx512"}}),
          "auto", "instruction set of the inner loops; auto = the widest; all give the same bits"),
      key("engine.seed", seed(s, &E::seed), "0", "seed of dummy weights"),
      key("engine.enable_prefix_caching", boolean(s, &E::enable_prefix_caching), "true",
          "serve: keep what prompts and answers left in the cache for requests that begin alike"),
      key("engine.prefix_granule", integer(s, &E::prefix_granule, 1, 1 << 16), "64",
          "serve: tokens of one key of the prefix cache"),
      key("engine.enable_chunked_prefill",
          only_default(boolean(s, &E::enable_chunked_prefill), R"({"const": true})",
                       "prompts are always computed in chunks here: leave the key out, and set "
                       "engine.prefill_chunk for their size"),
          "true", "serve: prompts are computed in chunks, beside the tokens of others; not false"),
      key("engine.scheduling_policy",
          choice<E, SchedulingPolicy>(
              s, &E::scheduling_policy,
              {{"fcfs", SchedulingPolicy::kFcfs}, {"priority", SchedulingPolicy::kPriority}}),
          "fcfs",
          "serve: fcfs = first come, first served; priority = by the `priority` of requests, lower "
          "first, which fcfs does not look at"),
      key("engine.admission",
          choice<E, AdmissionKind>(
              s, &E::admission,
              {{"reserve", AdmissionKind::kReserve}, {"optimistic", AdmissionKind::kOptimistic}}),
          "reserve",
          "serve: reserve = a request starts when the cache has room for its end; optimistic = "
          "when "
          "it has room for its start, and the latest yields where it runs out"),
      key("engine.preemption",
          choice<E, PreemptionKind>(s, &E::preemption,
                                    {{"auto", PreemptionKind::kAuto},
                                     {"spill", PreemptionKind::kSpill},
                                     {"recompute", PreemptionKind::kRecompute}}),
          "auto",
          "serve: what becomes of one that yields: spill = kept in host memory, recompute, auto = "
          "the cheaper"),
      key("engine.swap_space", size(s, &E::swap_space), "1GiB",
          "serve: host memory for those that yielded, per rank"),
      key("engine.priority_aging", duration(s, &E::priority_aging_ms), "10s",
          "serve: waiting that makes up for one level of a request's priority"),
      key("engine.pipeline_depth", integer(s, &E::pipeline_depth, 0, 64), "0",
          "serve: steps under way at a time; 0 = the number of stages"),
      key("engine.max_queue", integer(s, &E::max_queue, 1, 1 << 20), "1024",
          "serve: requests that wait, at most; beyond them 429"),
      key("engine.step_timeout", duration(s, &E::step_timeout_ms), "5m",
          "serve: a step that takes longer ends the worker"),
      key("engine.max_logprobs", integer(s, &E::max_logprobs, 0, kLogprobsMax), "20",
          "serve: log-probabilities that a request may ask for at each token"),
  };
}

std::vector<ConfigKey> group_keys() {
  constexpr auto s = &Deployment::group;
  using G = GroupDeployment;
  constexpr auto kSentence = "this version serves one worker, which does prefill and decode: {}";
  return {
      key("groups[].name", text(s, &G::name), "worker", "what its workers are called"),
      key("groups[].role",
          only_default(choice<G, GroupRole>(s, &G::role,
                                            {{"prefill", GroupRole::kPrefill},
                                             {"decode", GroupRole::kDecode},
                                             {"both", GroupRole::kBoth}}),
                       R"({"const": "both"})", fmt::format(kSentence, "write role: both")),
          "both", "what they do: prompts, answers or both; so far both"),
      key("groups[].replicas",
          only_default(integer(s, &G::replicas, 1, 1024), R"({"const": 1})",
                       fmt::format(kSentence, "write replicas: 1")),
          "1", "how many of them, each with all ranks of its mesh; so far 1"),
      key("groups[].placement.nodes",
          only_default(strings(s, &G::nodes), R"({"type": "array", "maxItems": 0})",
                       "this version starts its ranks on this host: leave the key out, and for "
                       "others start mpirun or srun yourself with their names"),
          "[]", "hosts of its ranks; so far []"),
      // Read by the reader, once `engine` is: it goes over it.
      {.path = "groups[].engine",
       .type = "map of keys of engine",
       .fallback = "{}",
       .meaning = "what is different from `engine` in this group",
       .set = [](const ConfigNode& node, Deployment&) -> Status {
         if (node.kind == ConfigNode::Kind::kMap || node.kind == ConfigNode::Kind::kNull) return {};
         return node.error(
             fmt::format("expected a map of keys of engine, found {}", node.describe()));
       },
       .get = [](const Deployment&) { return std::string("null"); },
       .json_schema = "engine"},
  };
}

}  // namespace trireme::schema
