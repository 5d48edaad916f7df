// generate, score, inspect: what is done with a model at once.
#include "launcher/cli_subcommand.h"
#include "runtime/config/config_reader.h"

namespace trireme {
namespace {

Status check_generate(const Subcommand& sub, CommandLine& line) {
  if (Status s = sub.need_model(line.deployment); !s.ok()) return s;
  if (sub.given("--prompt") && sub.given("--prompt-file"))
    return invalid_argument("--prompt and --prompt-file are both given: keep one");
  const GenerateOptions& generate = line.deployment.generate;
  if (generate.prompts.empty() && generate.prompt_file.empty())
    return sub.usage(
        "no prompt: give --prompt TEXT or --prompt-file FILE, or generate.prompt in the YAML file");
  return validate(line.deployment);
}

Status check_score(const Subcommand& sub, CommandLine& line) {
  if (Status s = sub.need_model(line.deployment); !s.ok()) return s;
  if (line.score.text_file.empty() == line.score.tokens_file.empty())
    return sub.usage("score needs --text-file FILE or --tokens-file FILE.json, one of the two");
  return validate(line.deployment);
}

Status check_inspect(const Subcommand& sub, CommandLine& line) {
  if (sub.given("PATH")) line.deployment.model.path = sub.text_of("PATH");
  if (Status s = sub.need_model(line.deployment); !s.ok()) return s;
  return validate(line.deployment);
}

}  // namespace

void add_model_commands(Subcommands& subcommands, CommandLine& line) {
  Subcommand& generate = subcommands.add(Command::kGenerate, "generate", "prompts to text");
  generate.add_config();
  generate.add_keys(model_flags());
  generate.add_keys(generate_flags());
  generate.add_keys(engine_flags());
  generate.add_switch("--json", line.generate.json, "the result as JSON");
  generate.add_switch("--stats", line.generate.stats, "times and rates, on stderr");
  generate.set_check(check_generate);

  Subcommand& score =
      subcommands.add(Command::kScore, "score", "the log-probability of each token of a text");
  score.add_config();
  score.add_keys(model_flags());
  score.add_text("--text-file", "FILE", "the text to score", &line.score.text_file);
  score.add_text("--tokens-file", "FILE.json", "or its tokens: a JSON list of ids",
                 &line.score.tokens_file);
  score.add_text("--logits", "OUT.safetensors", "write the logits of every position",
                 &line.score.logits_file);
  score.add_keys(engine_flags());
  score.add_switch("--json", line.score.json, "the result as JSON");
  score.set_check(check_score);

  Subcommand& inspect =
      subcommands.add(Command::kInspect, "inspect", "what a model is, and how a mesh would cut it");
  inspect.add_config();
  inspect.add_keys(model_flags());
  inspect.add_text("PATH", "PATH", "the model");
  inspect.add_keys(engine_flags());
  inspect.add_switch("--json", line.inspect.json, "the result as JSON");
  inspect.set_check(check_inspect);
}

}  // namespace trireme
