// The subcommands. Each is one function, called by main once the command line is read and, for
// those that take a RankWorld, on every rank; each returns the exit code and has said on stderr why
// where that is not 0 (world.h: settle, fail). Results go to stdout, by rank 0 alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/world.h"
#include "runtime/config/deployment.h"

namespace trireme {

struct GenerateFlags {
  bool json = false;
  bool stats = false;  // times and rates, to stderr
};
// Completes deployment.generate's prompts. There is exactly one source of them.
int run_generate(const Deployment& deployment, const GenerateFlags& flags, RankWorld& world);

struct ScoreFlags {
  std::string text_file;    // one of the two is given
  std::string tokens_file;  // JSON: a list of token ids
  std::string logits_file;  // "" = none: where to write the logits, as safetensors
  bool json = false;
};
// The log-probability of each token of a text.
int run_score(const Deployment& deployment, const ScoreFlags& flags, RankWorld& world);

// Serves the model over HTTP until it is told to end: the first SIGTERM, SIGINT or SIGUSR1 lets
// requests that run end and refuses new ones, the second ends at once.
int run_serve(const Deployment& deployment, RankWorld& world);

struct InspectFlags {
  bool json = false;
};
// What the model is and how the mesh would cut it; loads no weights. The world has one rank,
// whatever the mesh.
int run_inspect(const Deployment& deployment, const InspectFlags& flags, RankWorld& world);

struct TokenizeFlags {
  bool decode = false;      // ids to text
  bool add_special = true;  // the tokens that the tokenizer puts around a text
  bool json = false;
  std::optional<std::string> text;  // nullopt = stdin
  std::vector<int32_t> ids;         // to decode; empty = stdin, separated by spaces or commas
};
int run_tokenize(const Deployment& deployment, const TokenizeFlags& flags);

struct ConvertFlags {
  std::string kind;  // "rwkv-pth"
  std::string in;
  std::string out;
};
int run_convert(const ConvertFlags& flags);

struct DoctorFlags {
  bool json = false;
};
// What this machine has, and which device `auto` would take; a finding is no error.
int run_doctor(const DoctorFlags& flags);

}  // namespace trireme
