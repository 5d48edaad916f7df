// The keys of prompts and of sampling.
#include "runtime/config/schema_kinds.h"

namespace trireme::schema {
namespace {

// The sampling keys' ranges are validate()'s: it looks at each value alone, so that its error has
// the value's place in the file. What two values must be together is checked once all are read.
Kind checked(Kind kind) {
  Set set = std::move(kind.set);
  kind.set = [set](const ConfigNode& node, Deployment& deployment) -> Status {
    Deployment alone;
    alone.sampling.max_tokens = std::numeric_limits<uint32_t>::max();
    if (Status s = set(node, alone); !s.ok()) return s;
    if (Status s = validate(alone.sampling); !s.ok()) return node.error(s.message());
    return set(node, deployment);
  };
  return kind;
}

// generate.prompt, prompts and prompt_file replace one another: the last one given counts, so that
// the command line overrides the file.
Kind prompt_source(Kind kind) {
  Set set = std::move(kind.set);
  kind.set = [set](const ConfigNode& node, Deployment& deployment) -> Status {
    Deployment fresh;
    if (Status s = set(node, fresh); !s.ok()) return s;
    deployment.generate = fresh.generate;
    return {};
  };
  kind.get = [get = std::move(kind.get)](const Deployment& deployment) {
    const std::string value = get(deployment);
    return value == "[]" ? "null" : value;
  };
  return kind;
}

// Written as generate.prompts.
Kind one_prompt() {
  constexpr auto s = &Deployment::generate;
  return field(
      s, &GenerateOptions::prompts, "string", R"({"type": "string"})",
      [](const ConfigNode& node) -> Result<std::vector<std::string>> {
        Result<std::string> value = read_string(node);
        if (!value.ok()) return value.status();
        return std::vector<std::string>{value.take()};
      },
      [](const std::vector<std::string>&) { return std::string("null"); });
}

ConfigKey prompt_key(ConfigKey made) {
  made.rivals = "prompt source";
  return made;
}

}  // namespace

std::vector<ConfigKey> generate_keys() {
  constexpr auto s = &Deployment::generate;
  using G = GenerateOptions;
  return {
      prompt_key(key("generate.prompt", prompt_source(one_prompt()), "none",
                     "one prompt; of prompt, prompts and prompt_file at most one is given")),
      prompt_key(key("generate.prompts", prompt_source(strings(s, &G::prompts)), "none",
                     "one prompt or several, answered together")),
      prompt_key(path_key("generate.prompt_file", prompt_source(text(s, &G::prompt_file)), "none",
                          "a text file: all of it is one prompt")),
      key("generate.max_tokens",
          checked(integer(&Deployment::sampling, &SamplingParams::max_tokens, 1, kInt32Max)), "64",
          "most tokens of each output"),
  };
}

std::vector<ConfigKey> sampling_keys() {
  constexpr auto s = &Deployment::sampling;
  using P = SamplingParams;
  return {
      key("sampling.temperature",
          checked(number(s, &P::temperature, "0 to 2", R"("minimum": 0, "maximum": 2)")), "1",
          "0 = greedy: always the likeliest token"),
      key("sampling.top_p",
          checked(
              number(s, &P::top_p, "above 0, at most 1", R"("exclusiveMinimum": 0, "maximum": 1)")),
          "1", "choose from the fewest likeliest tokens whose probabilities reach it; 1 = off"),
      key("sampling.top_k", checked(integer(s, &P::top_k, -1, kInt32Max)), "0",
          "choose from so many likeliest tokens; 0 or -1 = off"),
      key("sampling.min_p",
          checked(number(s, &P::min_p, "0 to 1", R"("minimum": 0, "maximum": 1)")), "0",
          "leave out what is less likely than min_p times the likeliest; 0 = off"),
      key("sampling.repetition_penalty",
          checked(number(s, &P::repetition_penalty, "above 0", R"("exclusiveMinimum": 0)")), "1",
          "divides positive and multiplies negative logits of tokens of prompt and output"),
      key("sampling.presence_penalty",
          checked(number(s, &P::presence_penalty, "-2 to 2", R"("minimum": -2, "maximum": 2)")),
          "0", "subtracted from the logit of every token of the output"),
      key("sampling.frequency_penalty",
          checked(number(s, &P::frequency_penalty, "-2 to 2", R"("minimum": -2, "maximum": 2)")),
          "0", "subtracted once for each time that the token is in the output"),
      key("sampling.logit_bias",
          checked(field(s, &P::logit_bias, "map from token id to number, -100 to 100",
                        R"({"type": "object", "additionalProperties": false, "patternProperties": )"
                        R"({"^[0-9]+$": {"type": "number", "minimum": -100, "maximum": 100}}})",
                        read_logit_bias, write_logit_bias)),
          "{}", "added to the logits of these tokens"),
      key("sampling.stop", checked(strings(s, &P::stop)), "[]",
          "texts that end the output; they are not part of it"),
      key("sampling.stop_token_ids",
          checked(field(s, &P::stop_token_ids, "list of token ids",
                        R"({"type": "array", "items": {"type": "integer", "minimum": 0}})",
                        read_token_ids, write_token_ids)),
          "[]", "tokens that end the output, besides the model's own end tokens"),
      key("sampling.include_stop_str_in_output", boolean(s, &P::include_stop_str_in_output),
          "false", "keep the text of `stop` at the end of the output"),
      key("sampling.ignore_eos", boolean(s, &P::ignore_eos), "false",
          "go on after the model's end tokens"),
      key("sampling.min_tokens", checked(integer(s, &P::min_tokens, 0, kInt32Max)), "0",
          "no end token and no stop id before so many tokens"),
      key("sampling.seed", seed(s, &P::seed), "0",
          "the same seed gives the same output, whatever else runs"),
  };
}

}  // namespace trireme::schema
