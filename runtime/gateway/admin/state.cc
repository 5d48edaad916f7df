#include "runtime/gateway/admin/state.h"

namespace trireme {
namespace {

JsonArray ranks_json(const std::vector<RankPlace>& places) {
  JsonArray ranks;
  for (size_t r = 0; r < places.size(); ++r) {
    JsonObject rank;
    rank["rank"] = r;
    rank["host"] = places[r].host;
    rank["pid"] = places[r].pid;
    rank["stage"] = places[r].stage;
    rank["shard"] = places[r].shard;
    ranks.push_back(std::move(rank));
  }
  return ranks;
}

JsonObject cache_json(const EngineInfo& info, const EngineStats& stats) {
  JsonObject cache;
  cache["prefix_caching"] = info.prefix_caching;
  cache["block_tokens"] = info.block_tokens;
  cache["spilled_bytes"] = stats.spilled_bytes;
  cache["blocks_evicted"] = stats.blocks_evicted;
  cache["prefix_queries"] = stats.prefix_queries;
  cache["prefix_hits"] = stats.prefix_hits;
  JsonArray classes;
  for (size_t c = 0; c < stats.classes.size(); ++c) {
    JsonObject one;
    one["kind"] = info.block_kinds[c];
    one["block_bytes"] = info.block_bytes[c];
    one["total"] = stats.classes[c].total;
    one["free"] = stats.classes[c].free;
    one["live"] = stats.classes[c].live;
    one["cached"] = stats.classes[c].cached;
    classes.push_back(std::move(one));
  }
  cache["classes"] = std::move(classes);
  return cache;
}

JsonObject counters_json(const EngineStats& stats) {
  JsonObject counters;
  counters["requests"] = stats.requests;
  counters["finished_stop"] = stats.finished_stop;
  counters["finished_length"] = stats.finished_length;
  counters["finished_cancelled"] = stats.finished_cancelled;
  counters["finished_failed"] = stats.finished_failed;
  counters["prompt_tokens"] = stats.prompt_tokens;
  counters["prompt_tokens_cached"] = stats.prompt_tokens_cached;
  counters["generation_tokens"] = stats.generation_tokens;
  counters["preemptions"] = stats.preemptions;
  counters["steps"] = stats.steps;
  counters["step_rows"] = stats.step_rows;
  counters["step_seconds"] = stats.step_seconds;
  return counters;
}

JsonObject request_json(const RequestTimeline& t, int64_t now_ns) {
  const auto ago_ms = [&](int64_t ns) { return static_cast<double>(now_ns - ns) / 1e6; };
  JsonObject request;
  request["id"] = t.id;
  request["request_id"] = t.label;
  request["priority"] = t.priority;
  request["prompt_tokens"] = t.prompt_tokens;
  request["cached_tokens"] = t.cached_tokens;
  request["choices"] = t.choices;
  request["output_tokens"] = t.output_tokens;
  request["preemptions"] = t.preemptions;
  const std::pair<const char*, int64_t> times[] = {
      {"received", t.received_ns},     {"arrived", t.arrived_ns},
      {"scheduled", t.scheduled_ns},   {"first_token", t.first_token_ns},
      {"last_token", t.last_token_ns}, {"ended", t.ended_ns},
  };
  for (const auto& [name, ns] : times) {
    if (ns > 0) request[name] = ago_ms(ns);
  }
  if (t.ended_ns > 0) request["finish"] = finish_reason_name(t.finish);
  JsonArray chunks;
  for (const RequestTimeline::Chunk& c : t.chunks)
    chunks.push_back(JsonArray{ago_ms(c.begin_ns), ago_ms(c.end_ns), c.tokens});
  request["chunks"] = std::move(chunks);
  return request;
}

}  // namespace

JsonObject server_state(const ServerAbout& about, const EngineMonitor* monitor, bool draining,
                        int64_t now_ns) {
  JsonObject state;
  state["version"] = about.version;
  state["model"] = about.model;
  state["root"] = about.root;
  state["api_url"] = about.api_url;
  state["status"] = monitor == nullptr ? "loading" : draining ? "draining" : "serving";
  state["ranks"] = ranks_json(about.ranks);
  if (monitor == nullptr) return state;
  const EngineInfo& info = monitor->info();
  const EngineStats stats = monitor->stats();
  JsonObject mesh;
  mesh["stages"] = info.stages;
  mesh["shards"] = info.shards;
  mesh["device"] = info.device;
  state["mesh"] = std::move(mesh);
  state["max_model_len"] = info.tokens_max;
  state["cache"] = cache_json(info, stats);
  JsonObject sequences;
  sequences["running"] = stats.running;
  sequences["waiting"] = stats.waiting;
  sequences["max"] = info.sequences_max;
  state["sequences"] = std::move(sequences);
  state["counters"] = counters_json(stats);
  JsonArray stages;
  for (size_t s = 0; s < stats.stage_busy_seconds.size(); ++s) {
    JsonObject stage;
    stage["busy_seconds"] = stats.stage_busy_seconds[s];
    stage["idle_seconds"] = stats.stage_idle_seconds[s];
    stages.push_back(std::move(stage));
  }
  state["stages"] = std::move(stages);
  JsonArray requests;
  for (const RequestTimeline& t : monitor->timelines(0, kStateRequests))
    requests.push_back(request_json(t, now_ns));
  state["requests"] = std::move(requests);
  return state;
}

}  // namespace trireme
