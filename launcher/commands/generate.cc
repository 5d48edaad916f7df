// trireme generate: prompts in, texts out.
#include <algorithm>
#include <chrono>

#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "kernels/base/json.h"
#include "launcher/commands/commands.h"
#include "launcher/commands/worker.h"
#include "launcher/output.h"
#include "runtime/engine/generator.h"
#include "runtime/text/stop_strings.h"
#include "runtime/text/token_stream.h"

namespace trireme {
namespace {

// The text of one sequence as it grows. Every rank has one where stop strings decide when to end.
struct TextSink {
  TextSink(const Tokenizer& tokenizer, const SamplingParams& params)
      : stream(TokenStream::after_prompt(tokenizer)),
        stops(params.stop, params.include_stop_str_in_output),
        min_tokens(params.min_tokens) {}

  // What may be shown now.
  std::string push(int32_t token) {
    std::string piece = stops.push(stream.push(token), ++tokens > min_tokens);
    text += piece;
    return piece;
  }
  std::string finish() {
    std::string piece =
        stops.stopped() ? "" : stops.push(stream.finish(), tokens > min_tokens) + stops.finish();
    text += piece;
    return piece;
  }

  TokenStream stream;
  StopStrings stops;
  uint32_t min_tokens;
  uint32_t tokens = 0;
  std::string text;
};

std::string join_ids(const std::vector<int32_t>& ids) {
  std::string text;
  for (int32_t id : ids) text += fmt::format("{}{}", text.empty() ? "" : " ", id);
  return text;
}

Result<std::vector<std::string>> read_prompts(const Deployment& deployment) {
  if (deployment.generate.prompt_file.empty()) return deployment.generate.prompts;
  Result<std::string> text = read_file(deployment.generate.prompt_file, kPromptBytesMax);
  if (!text.ok()) return text.status();
  return std::vector<std::string>{text.take()};
}

// Without a tokenizer (dummy weights) the prompt's bytes stand for token ids.
std::vector<int32_t> bytes_as_ids(const std::string& prompt, int64_t vocab) {
  std::vector<int32_t> ids;
  for (const char c : prompt)
    ids.push_back(static_cast<int32_t>(static_cast<unsigned char>(c) % vocab));
  return ids;
}

Result<GenerateRequest> make_request(const std::string& prompt, size_t index, size_t count,
                                     const ModelFiles& files, const SamplingParams& params,
                                     uint32_t limit) {
  const auto where = [&](const Status& s) {
    return count == 1 ? s.at("prompt") : s.at(fmt::format("prompt {}", index + 1));
  };
  GenerateRequest request;
  request.params = params;
  if (files.tokenizer == nullptr) {
    request.prompt = bytes_as_ids(prompt, files.spec.vocab);
  } else {
    Result<std::vector<int32_t>> ids =
        files.tokenizer->encode(prompt, {.add_special = true, .parse_special = true});
    if (!ids.ok()) return where(ids.status());
    request.prompt = ids.take();
  }
  if (request.prompt.empty())
    return where(invalid_argument("it has no tokens; give at least one character"));
  for (const int32_t id : request.prompt) {
    if (id >= files.spec.vocab) {
      return where(invalid_argument(
          fmt::format("token {} is beyond the model's {} embeddings: is this its tokenizer?", id,
                      files.spec.vocab)));
    }
  }
  if (limit > 0 && request.prompt.size() >= limit) {
    return where(invalid_argument(fmt::format(
        "its {} tokens leave no room in a context of {}: shorten it or raise max_model_len",
        request.prompt.size(), limit)));
  }
  return request;
}

Result<std::vector<GenerateRequest>> make_requests(const Deployment& deployment,
                                                   const ModelFiles& files,
                                                   const std::vector<std::string>& prompts,
                                                   uint32_t limit) {
  if (files.tokenizer == nullptr && deployment.model.load_format != LoadFormat::kDummy) {
    return not_found(
        fmt::format("{}: no tokenizer.json and no rwkv_vocab*.txt beside it: give --tokenizer PATH",
                    deployment.model.path));
  }
  if (Status s = validate(deployment.sampling, static_cast<int32_t>(files.spec.vocab)); !s.ok())
    return s;
  std::vector<GenerateRequest> requests;
  for (size_t i = 0; i < prompts.size(); ++i) {
    Result<GenerateRequest> request =
        make_request(prompts[i], i, prompts.size(), files, deployment.sampling, limit);
    if (!request.ok()) return request.status();
    requests.push_back(request.take());
  }
  return requests;
}

// The longest sequence that these requests can become.
uint32_t longest(const std::vector<GenerateRequest>& requests, uint32_t limit) {
  uint64_t tokens = 0;
  for (const GenerateRequest& r : requests)
    tokens = std::max<uint64_t>(tokens, r.prompt.size() + r.params.max_tokens);
  const uint64_t bound = limit > 0 ? limit : uint64_t{1} << 30;
  return static_cast<uint32_t>(std::min(tokens, bound));
}

JsonObject result_json(const std::string& prompt, const GenerateRequest& request,
                       const GeneratedSequence& result, const TextSink* sink) {
  JsonObject object{{"prompt", prompt},
                    {"prompt_tokens", request.prompt.size()},
                    {"tokens", JsonArray(result.tokens.begin(), result.tokens.end())},
                    {"finish_reason", finish_reason_name(result.finish)},
                    {"seed", request.params.seed}};
  if (sink != nullptr) object["text"] = sink->text;
  return object;
}

void print_stats(const Worker& worker, const Generator& generator) {
  const GeneratorStats& s = generator.stats();
  const auto rate = [](uint64_t tokens, double seconds) {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0.0;
  };
  print_message(fmt::format("mesh     {}", describe_mesh(worker)));
  print_message(fmt::format("weights  {}", worker.weights));
  print_message(fmt::format("load     {:.3f} s", worker.load_seconds));
  print_message(fmt::format("prefill  {:.3f} s, {} tokens in {} steps, {:.1f} tokens/s",
                            s.prefill_seconds, s.prefill_tokens, s.prefill_steps,
                            rate(s.prefill_tokens, s.prefill_seconds)));
  print_message(fmt::format("decode   {:.3f} s, {} tokens in {} steps, {:.1f} tokens/s",
                            s.decode_seconds, s.decode_tokens, s.decode_steps,
                            rate(s.decode_tokens, s.decode_seconds)));
  if (const RecordedSteps* steps = worker.executor->recorded_steps()) {
    const RecordedSteps::Counts& counts = steps->counts();
    print_message(fmt::format("recorded {} sizes of steps, replayed {} steps{}", counts.recorded,
                              counts.replayed,
                              counts.failure.empty() ? "" : "; no more: " + counts.failure));
  }
  if (s.preemptions > 0)
    print_message(fmt::format("preempted {} times: the cache is too small for all prompts at once",
                              s.preemptions));
  print_message(fmt::format("cache    {} per rank, {:.1f} MiB",
                            dtype_name(worker.model->cache_dtype()),
                            static_cast<double>(worker.executor->cache_bytes()) / (1 << 20)));
}

// What each rank tells rank 0 for --stats.
struct RankStats {
  float collective_seconds = 0, pipeline_seconds = 0;
  float all_reduces = 0, mebibytes = 0;
  float rows_before_exit = 0, rows_after_exit = 0;
};

// Where each rank's time went, and YOCO's early exit as its counters saw it. Every rank calls it.
Status print_rank_stats(const Worker& worker, const Generator& generator, RankWorld& world) {
  const CommunicatorCounts& shards = worker.groups->shards->counts();
  const CommunicatorCounts& stages = worker.groups->stages->counts();
  const Decoder::Counters& rows = worker.model->counters();
  RankStats mine{static_cast<float>(shards.collective_seconds),
                 static_cast<float>(stages.pipeline_seconds),
                 static_cast<float>(shards.all_reduces),
                 static_cast<float>(shards.bytes + stages.bytes) / (1 << 20),
                 static_cast<float>(rows.rows_before_exit),
                 static_cast<float>(rows.rows_after_exit)};
  std::vector<RankStats> all(static_cast<size_t>(world.size));
  constexpr int64_t kFloats = sizeof(RankStats) / sizeof(float);
  if (Status s = world.world->all_gather(tensor(&mine, 1, kFloats),
                                         tensor(all.data(), world.size, kFloats));
      !s.ok())
    return s;
  if (world.rank != 0) return Status::ok_status();
  const double steps = generator.stats().prefill_seconds + generator.stats().decode_seconds;
  for (int rank = 0; rank < world.size && world.size > 1; ++rank) {
    const RankStats& r = all[static_cast<size_t>(rank)];
    const Coordinate here = world.mesh.coordinate(rank);
    const double compute =
        steps - static_cast<double>(r.collective_seconds) - static_cast<double>(r.pipeline_seconds);
    print_message(
        fmt::format("rank {}   stage {} shard {}: {:.3f} s computing, {:.3f} s in {:.0f} "
                    "all-reduces and gathers, {:.3f} s in the pipeline, {:.2f} MiB sent",
                    rank, here.stage, here.shard, std::max(compute, 0.0), r.collective_seconds,
                    r.all_reduces, r.pipeline_seconds, r.mebibytes));
  }
  if (worker.spec->logits_only_from < worker.spec->sublayers.size()) {
    print_message(fmt::format(
        "early exit: {:.0f} rows through the self-decoder, {:.0f} through the cross-decoder",
        all.front().rows_before_exit, all.back().rows_after_exit));
  }
  return Status::ok_status();
}

// Runs the requests; rank 0 writes texts as they come where there is one prompt, at the end
// otherwise. Returns the exit code.
int generate(const Deployment& deployment, const GenerateFlags& flags, const ModelFiles& files,
             Worker& worker, RankWorld& world, const std::vector<std::string>& prompts,
             std::vector<GenerateRequest> requests) {
  const bool shows = world.rank == 0;
  const bool streams = shows && !flags.json && prompts.size() == 1 && files.tokenizer != nullptr;
  const bool needs_text =
      files.tokenizer != nullptr && (shows || !deployment.sampling.stop.empty());
  std::vector<std::unique_ptr<TextSink>> sinks(prompts.size());
  for (auto& sink : sinks) {
    if (needs_text) sink = std::make_unique<TextSink>(*files.tokenizer, deployment.sampling);
  }
  GeneratorOptions options;
  options.budget = {worker.limits.rows, worker.limits.sequences, worker.chunk_max, true};
  options.tokens_max = worker.tokens_max;
  options.eos_token_ids = files.spec.eos_token_ids;
  Generator generator(*worker.executor, *world.world, *worker.groups, requests, options);

  Status written;
  const auto write = [&](std::string_view text) {
    if (written.ok() && !text.empty()) written = write_result(text);
  };
  if (streams) write(prompts[0]);
  const Status ran = generator.run([&](size_t index, int32_t token) {
    if (sinks[index] == nullptr) return false;
    const std::string piece = sinks[index]->push(token);
    if (streams) write(piece);
    return sinks[index]->stops.stopped();
  });
  // A logit that is not a number is told to all ranks, which say it once; anything else is one
  // rank's own.
  if (ran.code() == StatusCode::kDataLoss) return settle(world, ran, Doing::kRunning);
  if (!ran.ok()) return fail(world, ran, Doing::kRunning);
  for (size_t i = 0; i < prompts.size() && shows; ++i) {
    const GeneratedSequence& result = generator.results()[i];
    const std::string rest = sinks[i] == nullptr ? "" : sinks[i]->finish();
    if (flags.json) {
      write(boost::json::serialize(result_json(prompts[i], requests[i], result, sinks[i].get())) +
            "\n");
    } else if (sinks[i] == nullptr) {
      write(join_ids(result.tokens) + "\n");
    } else {
      write((streams ? rest : prompts[i] + sinks[i]->text) + "\n");
    }
  }
  if (flags.stats) {
    if (shows) print_stats(worker, generator);
    if (Status s = print_rank_stats(worker, generator, world); !s.ok())
      return fail(world, s, Doing::kRunning);
  }
  return written.ok() ? kExitOk : fail(world, written, Doing::kRunning);
}

}  // namespace

int run_generate(const Deployment& deployment, const GenerateFlags& flags, RankWorld& world) {
  Result<ModelFiles> files = open_model(deployment);
  if (const int code = settle(world, files.status(), Doing::kLoadingModel); code != kExitOk)
    return code;

  const Result<uint32_t> limit = context_limit(deployment, files->spec);
  if (const int code = settle(world, limit.status(), Doing::kConfiguring); code != kExitOk)
    return code;
  const Result<std::vector<std::string>> prompts = read_prompts(deployment);
  if (const int code = settle(world, prompts.status(), Doing::kConfiguring); code != kExitOk)
    return code;
  Result<std::vector<GenerateRequest>> requests =
      make_requests(deployment, *files, *prompts, *limit);
  if (const int code = settle(world, requests.status(), Doing::kConfiguring); code != kExitOk)
    return code;

  Worker worker;
  if (const int code = place_worker(deployment, *files, world, worker); code != kExitOk)
    return code;
  const int code =
      load_worker(deployment, *files, world, {longest(*requests, *limit), 0, {}}, worker);
  if (code != kExitOk) return code;
  return generate(deployment, flags, *files, worker, world, *prompts, requests.take());
}

}  // namespace trireme
