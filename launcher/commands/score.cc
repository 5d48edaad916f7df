// trireme score: the log-probability of every token of a text, its perplexity, and its logits.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "kernels/base/json.h"
#include "launcher/commands/commands.h"
#include "launcher/commands/worker.h"
#include "launcher/output.h"
#include "runtime/model/weights/safetensors_writer.h"
#include "runtime/sample/sampler.h"

namespace trireme {
namespace {

Result<std::vector<int32_t>> read_token_file(const std::string& path) {
  Result<Json> json = read_json_file(path);
  if (!json.ok()) return json.status();
  if (!json->is_array())
    return invalid_argument(
        fmt::format("{}: expected a JSON list of token ids, found a {}", path, json_kind(*json)));
  std::vector<int32_t> tokens;
  for (const Json& id : json->get_array()) {
    if (!id.is_int64() || id.get_int64() < 0 || id.get_int64() > INT32_MAX) {
      return invalid_argument(fmt::format("{}: entry {} is not a token id", path, tokens.size()));
    }
    tokens.push_back(static_cast<int32_t>(id.get_int64()));
  }
  return tokens;
}

Result<std::vector<int32_t>> read_text_file(const std::string& path, const ModelFiles& files) {
  if (files.tokenizer == nullptr) {
    return not_found(
        "there is no tokenizer beside the model: give --tokenizer PATH, or token ids with "
        "--tokens-file");
  }
  const Result<std::string> text = read_file(path, kPromptBytesMax);
  if (!text.ok()) return text.status();
  Result<std::vector<int32_t>> ids =
      files.tokenizer->encode(*text, {.add_special = true, .parse_special = true});
  if (!ids.ok()) return ids.status().at(path);
  return ids;
}

Result<std::vector<int32_t>> read_tokens(const ScoreFlags& flags, const ModelFiles& files,
                                         uint32_t limit) {
  const std::string& path = flags.tokens_file.empty() ? flags.text_file : flags.tokens_file;
  Result<std::vector<int32_t>> tokens =
      flags.tokens_file.empty() ? read_text_file(path, files) : read_token_file(path);
  if (!tokens.ok()) return tokens;
  if (tokens->empty()) return invalid_argument(path + ": it has no tokens");
  for (size_t i = 0; i < tokens->size(); ++i) {
    if ((*tokens)[i] < files.spec.vocab) continue;
    return invalid_argument(
        fmt::format("{}: entry {} is {}, but the model's vocabulary has {} tokens", path, i,
                    (*tokens)[i], files.spec.vocab));
  }
  if (limit > 0 && tokens->size() > limit) {
    return invalid_argument(fmt::format("{}: its {} tokens are more than the context of {}", path,
                                        tokens->size(), limit));
  }
  return tokens;
}

// Logits as they come, into a file; on the rank that has them.
class LogitsFile {
 public:
  static Result<LogitsFile> create(const std::string& path, int64_t tokens, int64_t vocab) {
    Result<SafetensorsWriter> writer =
        SafetensorsWriter::create(path, {make_tensor_info("logits", DType::kF32, {tokens, vocab})});
    if (!writer.ok()) return writer.status();
    return LogitsFile(writer.take());
  }
  Status append(const TensorView& logits) {
    return writer_.append("logits",
                          {static_cast<const std::byte*>(logits.data),
                           static_cast<size_t>(logits.rows * logits.cols) * sizeof(float)});
  }
  Status finish() { return writer_.finish(); }

 private:
  explicit LogitsFile(SafetensorsWriter writer) : writer_(std::move(writer)) {}
  SafetensorsWriter writer_;
};

// Computes the text chunk by chunk. logprobs[t] is of token t given those before it; [0] is 0.
// Every rank has them in the end.
Status score_tokens(const std::vector<int32_t>& tokens, Worker& worker, RankWorld& world,
                    LogitsFile* file, std::vector<float>& logprobs) {
  const int scorer = world.mesh.rank({world.mesh.stages - 1, 0});
  const bool scores = world.rank == scorer;
  std::vector<BlockPool> pools;
  for (uint32_t total : worker.executor->blocks_total()) pools.emplace_back(total);
  SequenceBlocks blocks(worker.executor->layout());
  SamplerScratch scratch;
  const auto total = static_cast<uint32_t>(tokens.size());
  logprobs.assign(total + 1, 0.0f);
  for (uint32_t first = 0; first < total; first += worker.chunk_max) {
    const uint32_t count = std::min(worker.chunk_max, total - first);
    CHECK(blocks.advance(pools, first, first + count)) << "the cache was sized for this text";
    const SequenceRun run{&blocks, first, std::span(tokens).subspan(first, count),
                          SequenceRun::Logits::kAll};
    const Status status =
        worker.executor->step(std::span(&run, 1), [&](int64_t row, TensorView logits) -> Status {
          for (int64_t i = 0; i < logits.rows && scores; ++i) {
            const size_t next = first + row + i + 1;
            if (next >= total) continue;
            const Result<SampledToken> scored =
                score(std::span(logits.f32_row(i), static_cast<size_t>(logits.cols)), tokens[next],
                      0, scratch);
            logprobs[next] = scored.ok() ? scored->logprob : NAN;
          }
          return scores && file != nullptr ? file->append(logits) : Status::ok_status();
        });
    if (!status.ok()) return status;
    if (Status s = world.world->broadcast(tensor(&logprobs[first + 1], 1, count), scorer); !s.ok())
      return s;
  }
  blocks.release(pools);
  logprobs.resize(total);
  return Status::ok_status();
}

Status check_numbers(const std::vector<float>& logprobs) {
  if (std::none_of(logprobs.begin(), logprobs.end(), [](float x) { return std::isnan(x); }))
    return Status::ok_status();
  return data_loss(
      "the model produced a logit that is not a number: its weights, or their dtype, are unfit");
}

Status write_scores(const std::vector<int32_t>& tokens, const std::vector<float>& logprobs,
                    bool json) {
  const size_t scored = tokens.size() - 1;
  const double sum = std::accumulate(logprobs.begin(), logprobs.end(), 0.0);
  const double loss = scored > 0 ? -sum / static_cast<double>(scored) : 0.0;
  if (!json) {
    return write_result(fmt::format(
        "tokens      {}\nscored      {}\nloss        {:.6f} nats per token\nperplexity  {:.4f}\n",
        tokens.size(), scored, loss, std::exp(loss)));
  }
  const JsonObject object{{"tokens", JsonArray(tokens.begin(), tokens.end())},
                          {"logprobs", JsonArray(logprobs.begin(), logprobs.end())},
                          {"scored", scored},
                          {"loss", loss},
                          {"perplexity", std::exp(loss)}};
  return write_result(boost::json::serialize(object) + "\n");
}

}  // namespace

int run_score(const Deployment& deployment, const ScoreFlags& flags, RankWorld& world) {
  Result<ModelFiles> files = open_model(deployment);
  if (const int code = settle(world, files.status(), Doing::kLoadingModel); code != kExitOk)
    return code;
  const Result<uint32_t> limit = context_limit(deployment, files->spec);
  if (const int code = settle(world, limit.status(), Doing::kConfiguring); code != kExitOk)
    return code;
  const Result<std::vector<int32_t>> tokens = read_tokens(flags, *files, *limit);
  if (const int code = settle(world, tokens.status(), Doing::kConfiguring); code != kExitOk)
    return code;

  Worker worker;
  if (const int code = place_worker(deployment, *files, world, worker); code != kExitOk)
    return code;
  if (const int code = load_worker(deployment, *files, world,
                                   {static_cast<uint32_t>(tokens->size()), 0, {}}, worker);
      code != kExitOk)
    return code;
  std::optional<LogitsFile> file;
  Status opened;
  if (!flags.logits_file.empty() && world.rank == world.mesh.rank({world.mesh.stages - 1, 0})) {
    Result<LogitsFile> made = LogitsFile::create(
        flags.logits_file, static_cast<int64_t>(tokens->size()), files->spec.vocab);
    opened = made.status();
    if (made.ok()) file.emplace(made.take());
  }
  if (const int code = settle(world, opened, Doing::kConfiguring); code != kExitOk) return code;

  std::vector<float> logprobs;
  const Status scored = score_tokens(*tokens, worker, world, file ? &*file : nullptr, logprobs);
  if (!scored.ok()) return fail(world, scored, Doing::kRunning);
  if (const int code = settle(world, check_numbers(logprobs), Doing::kRunning); code != kExitOk)
    return code;
  const Status finished = file ? file->finish() : Status::ok_status();
  if (!finished.ok()) return fail(world, finished, Doing::kRunning);
  const Status written =
      world.rank == 0 ? write_scores(*tokens, logprobs, flags.json) : Status::ok_status();
  return written.ok() ? kExitOk : fail(world, written, Doing::kRunning);
}

}  // namespace trireme
