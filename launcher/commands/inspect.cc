// trireme inspect: what a model is, and what each rank of a mesh would hold. Loads no weights.
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "kernels/base/json.h"
#include "launcher/commands/commands.h"
#include "launcher/commands/worker.h"
#include "launcher/output.h"

namespace trireme {
namespace {

struct RankShare {
  Coordinate here;
  Range layers;
  uint64_t weight_bytes = 0;
  uint64_t cache_bytes_per_token = 0;     // of states that grow
  uint64_t cache_bytes_per_sequence = 0;  // of states that do not, and of windows when full
};

struct Report {
  std::string path;
  const ModelSpec* spec = nullptr;
  ParameterCounts parameters;
  Mesh mesh;
  std::string weights;
  DType cache_dtype = DType::kF32;
  std::vector<RankShare> ranks;
};

RankShare share_of(const Report& report, const StagePlan& stage, Coordinate here,
                   uint32_t block_tokens) {
  RankShare share;
  share.here = here;
  share.layers = stage.layers;
  const CacheLayout layout = cache_layout(*report.spec, stage, here.shard, report.mesh.shards,
                                          report.cache_dtype, block_tokens);
  for (const SlotClass& c : layout.classes) {
    if (c.growth == StateSpec::Growth::kFixed) {
      share.cache_bytes_per_sequence += c.block_bytes;
    } else if (c.window_tokens == 0) {
      share.cache_bytes_per_token += c.block_bytes / c.block_tokens;
    } else {
      share.cache_bytes_per_sequence += c.block_bytes * blocks_peak(c, UINT32_MAX / 2, 1);
    }
  }
  return share;
}

Result<Report> make_report(const Deployment& deployment, const ModelFiles& files) {
  Report report;
  report.path = deployment.model.path;
  report.spec = &files.spec;
  report.weights = describe_weights(deployment, files);
  report.mesh = {deployment.engine.pipeline_parallel_size.value_or(1),
                 deployment.engine.tensor_parallel_size.value_or(1)};
  if (Status s = check_mesh(files.spec, report.mesh); !s.ok()) return s;
  Result<ParameterCounts> parameters = count_parameters(files.spec);
  if (!parameters.ok()) return parameters.status();
  report.parameters = parameters.take();
  const bool full =
      weights_dtype(files.spec, *files.checkpoint, deployment.model.dtype) == DType::kF32;
  report.cache_dtype = deployment.engine.kv_cache_dtype.value_or(full ? DType::kF32 : DType::kBF16);
  const Result<std::vector<StagePlan>> stages = plan_stages(files.spec, report.mesh.stages);
  if (!stages.ok()) return stages.status();
  for (int rank = 0; rank < report.mesh.size(); ++rank) {
    const Coordinate here = report.mesh.coordinate(rank);
    RankShare share = share_of(report, (*stages)[here.stage], here,
                               static_cast<uint32_t>(deployment.engine.block_size));
    const Result<uint64_t> bytes = weight_bytes(files.spec, files.checkpoint.get(),
                                                weight_choice(deployment), report.mesh, here);
    if (!bytes.ok()) return bytes.status();
    share.weight_bytes = *bytes;
    report.ranks.push_back(share);
  }
  return report;
}

std::string text_of(const Report& report, const Checkpoint& checkpoint) {
  const ModelSpec& spec = *report.spec;
  std::string text;
  const auto line = [&](std::string_view name, std::string value) {
    text += fmt::format("{:<12}{}\n", name, value);
  };
  line("model", report.path);
  line("family", fmt::format("{} ({})", spec.family, spec.model_type));
  line("parameters", fmt::format("{}", report.parameters.total()));
  line("width", fmt::format("{}", spec.dim));
  line("layers", fmt::format("{}", spec.layers));
  const HeadSpec& heads = spec.sublayers.front().heads;
  if (heads.heads > 0)
    line("heads", fmt::format("{} of {}, {} of keys and values", heads.heads, heads.head_dim,
                              heads.kv_heads));
  line("vocabulary",
       fmt::format("{}{}", spec.vocab, spec.tied ? ", head tied to the embedding" : ""));
  line("context",
       spec.context_max == 0 ? std::string("no limit") : fmt::format("{}", spec.context_max));
  line("tensors", fmt::format("{}", checkpoint.tensors().size()));
  line("weights", report.weights);
  line("cache", std::string(dtype_name(report.cache_dtype)));
  text += fmt::format("\nmesh tp {} x pp {}\n{:>6}{:>7}{:>7}{:>10}{:>16}{:>18}{:>21}\n",
                      report.mesh.shards, report.mesh.stages, "rank", "stage", "shard", "layers",
                      "weight bytes", "cache bytes/token", "cache bytes/sequence");
  for (size_t i = 0; i < report.ranks.size(); ++i) {
    const RankShare& r = report.ranks[i];
    text += fmt::format("{:>6}{:>7}{:>7}{:>10}{:>16}{:>18}{:>21}\n", i, r.here.stage, r.here.shard,
                        fmt::format("{}-{}", r.layers.first, r.layers.end() - 1), r.weight_bytes,
                        r.cache_bytes_per_token, r.cache_bytes_per_sequence);
  }
  text += "\ntensors\n";
  for (const TensorInfo& t : checkpoint.tensors()) {
    text +=
        fmt::format("  {:<5} {:<22} {}\n", t.dtype_name, shape_text(t.shape), printable(t.name));
  }
  return text;
}

Json json_of(const Report& report, const Checkpoint& checkpoint) {
  const ModelSpec& spec = *report.spec;
  JsonArray ranks, tensors;
  for (const RankShare& r : report.ranks) {
    ranks.push_back(JsonObject{{"stage", r.here.stage},
                               {"shard", r.here.shard},
                               {"first_layer", r.layers.first},
                               {"layers", r.layers.count},
                               {"weight_bytes", r.weight_bytes},
                               {"cache_bytes_per_token", r.cache_bytes_per_token},
                               {"cache_bytes_per_sequence", r.cache_bytes_per_sequence}});
  }
  for (const TensorInfo& t : checkpoint.tensors()) {
    tensors.push_back(JsonObject{{"name", printable(t.name)},
                                 {"dtype", t.dtype_name},
                                 {"shape", JsonArray(t.shape.begin(), t.shape.end())}});
  }
  return JsonObject{{"model", report.path},
                    {"family", spec.family},
                    {"model_type", spec.model_type},
                    {"parameters", report.parameters.total()},
                    {"dim", spec.dim},
                    {"layers", spec.layers},
                    {"vocab", spec.vocab},
                    {"context", spec.context_max},
                    {"tied", spec.tied},
                    {"weights", report.weights},
                    {"cache_dtype", dtype_name(report.cache_dtype)},
                    {"tensor_parallel_size", report.mesh.shards},
                    {"pipeline_parallel_size", report.mesh.stages},
                    {"ranks", ranks},
                    {"tensors", tensors}};
}

}  // namespace

int run_inspect(const Deployment& deployment, const InspectFlags& flags, RankWorld& world) {
  const Result<ModelFiles> files = open_model(deployment);
  if (!files.ok()) return fail(world, files.status(), Doing::kLoadingModel);
  const Result<Report> report = make_report(deployment, *files);
  if (!report.ok()) return fail(world, report.status(), Doing::kConfiguring);
  const std::string text = flags.json
                               ? boost::json::serialize(json_of(*report, *files->checkpoint)) + "\n"
                               : text_of(*report, *files->checkpoint);
  const Status written = write_result(text);
  return written.ok() ? kExitOk : fail(world, written, Doing::kRunning);
}

}  // namespace trireme
