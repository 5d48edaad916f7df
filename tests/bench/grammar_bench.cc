// How long a mask takes: fill_mask over the tokens of one JSON text, under a schema and as any JSON
// object, with the RWKV World vocabulary (65,529 tokens) and its first 32,768.
//
// warm: every state was met before. cold: a grammar compiled anew, each state met for the first
// time (the first of all while compiling). Counters: of one mask, in microseconds, the median, the
// 99th percentile and the longest.
#include <algorithm>
#include <chrono>

#include <benchmark/benchmark.h>

#include "runtime/grammar/grammar_compiler.h"

namespace trireme {
namespace {

constexpr const char* kSchema = R"({"type": "object", "properties": {
  "name": {"type": "string", "maxLength": 40}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
  "mail": {"type": "string", "format": "email"}, "tags": {"type": "array", "items": {"type": "string"}},
  "kind": {"enum": ["person", "company", "robot"]},
  "home": {"type": "object", "properties": {"street": {"type": "string"}, "zip": {"type": "string",
    "pattern": "^[0-9]{5}$"}}, "required": ["street", "zip"]}},
  "required": ["name", "age", "mail", "tags", "kind", "home"]})";
constexpr const char* kText =
    R"({"name": "Ada King, née Byron", "age": 36, "mail": "ada.king@example.org", "tags": ["first )"
    R"(of all programmers", "mathématicienne", "解析機関"], "kind": "person", "home": {"street": )"
    R"("12 St James's Square, London", "zip": "12345"}})";

const Tokenizer& tokenizer() {
  static const std::unique_ptr<Tokenizer> loaded = [] {
    auto read = load_rwkv_vocab(TRIREME_BINARY_DIR "/rwkv_world/rwkv_vocab_v20230424.txt");
    CHECK(read.ok()) << read.status().message();
    return read.take();
  }();
  return *loaded;
}

// The text as tokens below `vocab`, the longest first.
std::vector<int32_t> tokens_of(const grammar::VocabularyTrie& trie, int32_t vocab) {
  std::vector<int32_t> tokens;
  for (std::string_view rest = kText; !rest.empty();) {
    int32_t best = -1;
    for (int32_t id = 0; id < vocab; ++id) {
      const std::string_view bytes = trie.bytes(id);
      if (!bytes.empty() && rest.starts_with(bytes) &&
          (best < 0 || bytes.size() > trie.bytes(best).size()))
        best = id;
    }
    CHECK(best >= 0);
    tokens.push_back(best);
    rest.remove_prefix(trie.bytes(best).size());
  }
  return tokens;
}

void fill_mask(benchmark::State& state, ConstraintSpec spec, int32_t vocab, bool warm) {
  using Clock = std::chrono::steady_clock;
  auto compiler = std::make_unique<GrammarCompiler>(tokenizer(), std::vector<int32_t>{0}, vocab);
  const std::vector<int32_t> tokens = tokens_of(compiler->trie(), vocab);
  std::vector<uint32_t> mask((static_cast<size_t>(vocab) + 31) / 32);
  std::vector<double> micros;
  const auto read = [&](bool timed) {
    auto constraint = compiler->compile(spec);
    CHECK(constraint.ok()) << constraint.status().message();
    for (const int32_t token : tokens) {
      const auto begin = Clock::now();
      CHECK((*constraint)->fill_mask(mask).ok());
      if (timed)
        micros.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
      CHECK((mask[static_cast<size_t>(token) / 32] >> (token % 32) & 1) != 0);
      (*constraint)->accept(token);
    }
  };
  if (warm) read(false);
  for (auto _ : state) {
    if (!warm) {
      state.PauseTiming();
      compiler = std::make_unique<GrammarCompiler>(tokenizer(), std::vector<int32_t>{0}, vocab);
      state.ResumeTiming();
    }
    read(true);
  }
  std::sort(micros.begin(), micros.end());
  state.counters["median_us"] = micros[micros.size() / 2];
  state.counters["p99_us"] = micros[micros.size() * 99 / 100];
  state.counters["max_us"] = micros.back();
}

}  // namespace
}  // namespace trireme

int main(int argc, char** argv) {
  using namespace trireme;
  const std::pair<const char*, ConstraintSpec> specs[] = {
      {"schema", {ConstraintSpec::Kind::kJsonSchema, kSchema}},
      {"json_object", {ConstraintSpec::Kind::kJsonObject, ""}}};
  for (const auto& [name, spec] : specs) {
    for (const int32_t vocab : {32768, 65536}) {
      for (const bool warm : {false, true}) {
        const std::string full =
            std::string(name) + "/" + std::to_string(vocab) + (warm ? "/warm" : "/cold");
        benchmark::RegisterBenchmark(
            full.c_str(), [=](benchmark::State& state) { fill_mask(state, spec, vocab, warm); })
            ->Unit(benchmark::kMillisecond)
            ->MinTime(0.2);
      }
    }
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
