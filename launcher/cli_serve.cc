// serve: a model behind an HTTP gateway.
#include "launcher/cli_subcommand.h"
#include "runtime/config/config_reader.h"

namespace trireme {

void add_serve_commands(Subcommands& subcommands, CommandLine&) {
  Subcommand& serve =
      subcommands.add(Command::kServe, "serve", "a model behind an OpenAI-compatible HTTP gateway");
  serve.add_config();
  serve.add_keys(model_flags());
  serve.add_model_or_file();
  serve.add_keys(serve_flags());
  serve.add_keys(engine_flags());
  serve.set_examples(
      "  trireme serve configs/models/gqa --port 8000\n"
      "  trireme serve deployment.yaml --set engine.max_num_seqs=128\n"
      "  trireme serve deployment.yaml --host 0.0.0.0 --api-keys-file keys.txt");
  serve.set_check([](const Subcommand& sub, CommandLine& line) -> Status {
    if (Status s = sub.need_model(line.deployment); !s.ok()) return s;
    return validate(line.deployment);
  });
}

}  // namespace trireme
