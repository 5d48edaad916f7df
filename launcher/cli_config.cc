// config: what a deployment says, without starting it. Its answers need nothing but the command
// line, so that they are printed texts.
#include <array>

#include <fmt/format.h>

#include "launcher/cli_subcommand.h"
#include "runtime/config/config_reader.h"
#include "runtime/config/config_writer.h"
#include "runtime/config/nearest.h"

namespace trireme {
namespace {

constexpr std::array<std::string_view, 3> kActions = {"check", "print", "schema"};

Status check_config(const Subcommand& sub, CommandLine& line) {
  const std::string action = sub.text_of("ACTION");
  if (action == "schema") {
    line.text = config_json_schema();
    return {};
  }
  if (action != "check" && action != "print")
    return sub.usage(
        action.empty()
            ? "config needs an action: check, print or schema"
            : fmt::format("config does not know '{}'{}: it knows check, print and schema", action,
                          did_you_mean(action, kActions)));
  if (Status s = validate(line.deployment); !s.ok()) return s;
  if (action == "print") {
    line.text = write_config(line.deployment, sub.given("--origin"));
    return {};
  }
  if (Status s = sub.need_model(line.deployment); !s.ok()) return s;
  const int ranks = line.deployment.engine.mesh_size();
  line.text = fmt::format("ok: {} on {} rank{}\n", line.deployment.model.path, ranks,
                          ranks == 1 ? "" : "s");
  return {};
}

}  // namespace

void add_config_commands(Subcommands& subcommands, CommandLine&) {
  Subcommand& config =
      subcommands.add(Command::kPrint, "config", "what a deployment says, without starting it");
  config.add_config();
  config.add_text("ACTION", "ACTION",
                  "check: whether it is right; print: all its keys, with defaults; schema: the "
                  "JSON Schema of deployments, for editors");
  config.add_file();
  config.add_switch("--origin", "print: where each value was said");
  config.add_keys(model_flags());
  config.add_keys(serve_flags());
  config.add_keys(generate_flags());
  config.add_keys(engine_flags());
  config.set_examples(
      "  trireme config check deployment.yaml\n"
      "  trireme config print deployment.yaml --set engine.max_num_seqs=128 --origin\n"
      "  trireme config schema > deployment.schema.json");
  config.set_check(check_config);
}

}  // namespace trireme
