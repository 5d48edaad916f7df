#include "runtime/grammar/grammar_compiler.h"

#include <algorithm>
#include <atomic>

#include <fmt/format.h>

#include "runtime/grammar/front_ends.h"

namespace trireme {

using grammar::Automaton;

namespace {

std::string_view field_of(ConstraintSpec::Kind kind) {
  switch (kind) {
    case ConstraintSpec::Kind::kJsonSchema:
      return "the JSON schema";
    case ConstraintSpec::Kind::kRegex:
      return "the regular expression";
    case ConstraintSpec::Kind::kChoice:
      return "the choice";
    case ConstraintSpec::Kind::kGrammar:
      return "the grammar";
    default:
      return "the constraint";
  }
}

grammar::Grammar read(const ConstraintSpec& spec) {
  switch (spec.kind) {
    case ConstraintSpec::Kind::kJsonSchema:
      return grammar::parse_json_schema(spec.text);
    case ConstraintSpec::Kind::kRegex:
      return grammar::parse_regex(spec.text);
    case ConstraintSpec::Kind::kChoice:
      return grammar::parse_choice(spec.text);
    case ConstraintSpec::Kind::kGrammar:
      return grammar::parse_gbnf(spec.text);
    default:
      return grammar::any_json_object();
  }
}

}  // namespace

// An automaton and the masks of its states. When it has met too many states it begins anew; who
// holds a state of before finds that by the epoch and reads its output again.
class GrammarCompiler::Compiled {
 public:
  Compiled(grammar::Grammar grammar, Automaton automaton, const GrammarCompiler& owner)
      : grammar_(std::move(grammar)), automaton_(std::move(automaton)), owner_(owner) {}

  struct Place {
    uint64_t epoch = 0;
    Automaton::State state = Automaton::kDead;
  };

  Place start() {
    const std::lock_guard lock(mutex_);
    return {epoch_, automaton_.start()};
  }

  // Where reading `bytes` leads from `place`; `before`: all that was read up to there.
  Place read(Place place, std::string_view before, std::string_view bytes) {
    const std::lock_guard lock(mutex_);
    return read_locked(renewed(place, before), bytes);
  }

  Status fill(Place& place, std::string_view before, std::span<uint32_t> allowed) {
    const std::lock_guard lock(mutex_);
    if (automaton_.full() || masks_.size() * allowed.size_bytes() > owner_.limits_.mask_bytes_max)
      begin_anew();
    place = renewed(place, before);
    auto mask = masks_.find(place.state);
    if (mask == masks_.end()) {
      automaton_.begin_work();
      std::vector<uint32_t> made(allowed.size());
      if (place.state == Automaton::kTooMany || !walk(place.state, made))
        return resource_exhausted(
            "the form of the output can be read in too many ways here: make it less ambiguous");
      mask = masks_.emplace(place.state, std::move(made)).first;
      bytes_ = automaton_.bytes() + masks_.size() * allowed.size_bytes();
    }
    std::copy(mask->second.begin(), mask->second.end(), allowed.begin());
    return {};
  }

  // About what it takes in memory.
  size_t bytes() const { return bytes_; }

 private:
  void begin_anew() {
    Result<Automaton> again =
        Automaton::make(grammar_, owner_.limits_.automaton, owner_.trie_.alphabet());
    CHECK(again.ok()) << again.status().message();
    automaton_ = again.take();
    masks_.clear();
    ++epoch_;
  }
  Place renewed(Place place, std::string_view before) {
    if (place.epoch == epoch_) return place;
    return read_locked({epoch_, automaton_.start()}, before);
  }
  Place read_locked(Place place, std::string_view bytes) {
    for (const char c : bytes) {
      automaton_.begin_work();
      place.state = automaton_.next(place.state, static_cast<uint8_t>(c));
    }
    return place;
  }

  // Down the vocabulary with the automaton at its side; a dead end leaves out all that is below it.
  // False where it takes too many steps.
  bool walk(Automaton::State from, std::vector<uint32_t>& mask) {
    const auto nodes = owner_.trie_.nodes();
    const auto ids = owner_.trie_.ids();
    struct Open {
      uint32_t end;
      Automaton::State state;
    };
    std::vector<Open> path = {{nodes[0].end, from}};
    for (uint32_t i = 1; i < nodes.size();) {
      while (i >= path.back().end) path.pop_back();
      const Automaton::State to = automaton_.next(path.back().state, nodes[i].byte);
      if (to == Automaton::kDead) {
        i = nodes[i].end;
        continue;
      }
      if (to == Automaton::kTooMany) return false;
      for (uint32_t t = 0; t < nodes[i].tokens; ++t) {
        const auto id = static_cast<uint32_t>(ids[nodes[i].first_token + t]);
        mask[id / 32] |= uint32_t{1} << (id % 32);
      }
      if (nodes[i].end > i + 1) path.push_back({nodes[i].end, to});
      ++i;
    }
    for (const int32_t id : owner_.eos_) {
      if (automaton_.accepts(from)) mask[static_cast<size_t>(id) / 32] |= uint32_t{1} << (id % 32);
    }
    return true;
  }

  const grammar::Grammar grammar_;
  std::mutex mutex_;
  Automaton automaton_;
  const GrammarCompiler& owner_;
  std::unordered_map<Automaton::State, std::vector<uint32_t>> masks_;
  uint64_t epoch_ = 0;
  std::atomic<size_t> bytes_ = 0;
};

namespace {

class GrammarConstraint final : public TokenConstraint {
 public:
  GrammarConstraint(std::shared_ptr<GrammarCompiler::Compiled> compiled,
                    const grammar::VocabularyTrie& trie)
      : compiled_(std::move(compiled)), trie_(trie), place_(compiled_->start()) {}

  Status fill_mask(std::span<uint32_t> allowed) override {
    return compiled_->fill(place_, read_, allowed);
  }

  void accept(int32_t token) override {
    const std::string_view bytes = trie_.bytes(token);
    if (bytes.empty()) return;  // an end token
    place_ = compiled_->read(place_, read_, bytes);
    CHECK(place_.state != Automaton::kDead) << "token " << token << " was not allowed";
    read_ += bytes;
  }

 private:
  const std::shared_ptr<GrammarCompiler::Compiled> compiled_;
  const grammar::VocabularyTrie& trie_;
  GrammarCompiler::Compiled::Place place_;
  std::string read_;
};

}  // namespace

GrammarCompiler::GrammarCompiler(const Tokenizer& tokenizer, std::vector<int32_t> eos,
                                 int32_t vocab, const GrammarLimits& limits)
    : limits_(limits), trie_(tokenizer, vocab), eos_(std::move(eos)), vocab_(vocab) {
  for (const int32_t id : eos_) CHECK(id >= 0 && id < vocab);
}

GrammarCompiler::~GrammarCompiler() = default;

Result<std::unique_ptr<TokenConstraint>> GrammarCompiler::compile(const ConstraintSpec& spec) {
  CHECK(spec.kind != ConstraintSpec::Kind::kNone);
  if (eos_.empty())
    return invalid_argument("the model has no end token, so a constrained output could not end");
  Result<std::shared_ptr<Compiled>> compiled = find_or_make(spec);
  if (!compiled.ok()) return compiled.status();
  return std::unique_ptr<TokenConstraint>(
      std::make_unique<GrammarConstraint>(compiled.take(), trie_));
}

Result<std::shared_ptr<GrammarCompiler::Compiled>> GrammarCompiler::find_or_make(
    const ConstraintSpec& spec) {
  const std::string key = std::to_string(static_cast<int>(spec.kind)) + spec.text;
  {
    const std::lock_guard lock(mutex_);
    const auto known = by_text_.find(key);
    if (known != by_text_.end()) {
      recent_.splice(recent_.begin(), recent_, known->second);
      return known->second->second;
    }
  }
  if (spec.text.size() > limits_.text_bytes_max)
    return invalid_argument(fmt::format("{} has {} bytes: at most {} are allowed",
                                        field_of(spec.kind), spec.text.size(),
                                        limits_.text_bytes_max));
  grammar::Grammar read_grammar;
  try {
    read_grammar = read(spec);
  } catch (const grammar::GrammarError& e) {
    return invalid_argument(fmt::format("{}: {}", field_of(spec.kind), e.message));
  }
  Result<Automaton> automaton = Automaton::make(read_grammar, limits_.automaton, trie_.alphabet());
  if (!automaton.ok()) return automaton.status().at(field_of(spec.kind));
  auto made = std::make_shared<Compiled>(std::move(read_grammar), automaton.take(), *this);
  // The first mask, so that a form which cannot be served is refused before it is begun.
  Compiled::Place first = made->start();
  std::vector<uint32_t> mask((static_cast<size_t>(vocab_) + 31) / 32);
  if (Status s = made->fill(first, "", mask); !s.ok())
    return invalid_argument(s.message()).at(field_of(spec.kind));
  const std::lock_guard lock(mutex_);
  if (!by_text_.contains(key)) {
    recent_.emplace_front(key, made);
    by_text_[key] = recent_.begin();
  }
  size_t bytes = 0, keep = 0;
  for (const auto& [text, compiled] : recent_) {
    bytes += text.size() + compiled->bytes();
    if (keep > 0 && (keep == limits_.compiled_max || bytes > limits_.bytes_max)) break;
    ++keep;
  }
  while (recent_.size() > keep) {
    by_text_.erase(recent_.back().first);
    recent_.pop_back();
  }
  return made;
}

}  // namespace trireme
