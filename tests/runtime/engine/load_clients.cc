#include "tests/runtime/engine/load_clients.h"

namespace trireme::test {
namespace {

// The first of each client are there when the engine begins, and together need far more rows than
// there is room for.
void make_crowd(Job& job) {
  Request& r = job.request;
  while (r.prompt.size() < 40) r.prompt.push_back(static_cast<int32_t>(3 + r.prompt.size()));
  r.params.max_tokens = 40;
  r.params.stop_token_ids.clear();
  r.choices = 1;
  job.choices.resize(1);
  job.manner = Manner::kWhole;
}

}  // namespace

std::vector<Job> make_jobs(const Load& load, Random& random) {
  std::vector<std::vector<int32_t>> beginnings(5);
  for (std::vector<int32_t>& text : beginnings) {
    for (uint32_t t = 0; t < load.prompt_max; ++t)
      text.push_back(static_cast<int32_t>(3 + random.up_to(load.vocab - 4)));
  }
  std::vector<Job> jobs(load.requests);
  for (Job& job : jobs) {
    Request& r = job.request;
    r.prompt = beginnings[random.up_to(4)];
    r.prompt.resize(random.between(1, random.one_in(2) ? load.prompt_max : 30));
    for (uint32_t t = random.up_to(std::min<uint32_t>(8, static_cast<uint32_t>(r.prompt.size())));
         t > 0; --t)
      r.prompt[r.prompt.size() - t] = static_cast<int32_t>(3 + random.up_to(load.vocab - 4));
    r.params.temperature = random.one_in(3) ? 0.0f : 0.9f;
    r.params.top_p = random.one_in(2) ? 1.0f : 0.9f;
    r.params.repetition_penalty = random.one_in(4) ? 1.2f : 1.0f;
    r.params.seed = random.up_to(1u << 30);
    r.params.max_tokens = random.between(1, random.one_in(3) ? load.output_max : 15);
    r.params.ignore_eos = true;
    r.params.logprobs = random.one_in(2) ? 1 : -1;
    if (random.one_in(4)) r.params.stop_token_ids = {10, 13, 32, 46, 300, 301, 302, 303};
    r.priority = static_cast<int32_t>(random.up_to(2)) - 1;
    if (r.prompt.size() <= 30 && random.one_in(3)) r.choices = random.between(2, 3);
    if (random.one_in(3)) r.cache_salt = "tenant";
    job.choices.resize(r.choices);
    const uint32_t manner = random.up_to(5);
    if (manner < 2) job.manner = manner == 0 ? Manner::kCancel : Manner::kEndChoice;
    if (random.one_in(5)) job.manner = Manner::kCancel;
    job.after = random.one_in(3) ? 0 : random.up_to(12);
    job.lag = random.one_in(2) ? 0 : random.up_to(60);
  }
  for (size_t i = 0; i < jobs.size(); ++i) {
    if (i % (load.requests / load.clients) < load.crowd) make_crowd(jobs[i]);
  }
  return jobs;
}

void LoadClient::run() {
  while (ended_ < jobs_.size()) {
    const uint64_t rings = bell_.rings();
    const bool open = next_ < jobs_.size() && next_ - ended_ < open_max_;
    const bool entered = open && submit(jobs_[next_]);
    bool patient = false;  // something lies in a mailbox that it does not look into yet
    for (Job& job : jobs_.first(next_)) {
      if (job.ended() || job.mailbox->empty()) continue;
      if (job.rounds++ >= job.lag) {
        look_at(job);
      } else {
        patient = true;
      }
    }
    // One of its own requests that is not over has news to come.
    if (!entered && !patient && next_ > ended_) bell_.wait_past(rings);
  }
}

bool LoadClient::submit(Job& job) {
  const auto mailbox = std::make_shared<LateMailbox>(job.request.choices, bell_);
  const Result<RequestId> id = engine_.submit(job.request, mailbox);
  if (!id.ok()) {  // it tries again
    CHECK(id.status().code() == StatusCode::kResourceExhausted) << id.status().message();
    return false;
  }
  job.id = *id;
  job.mailbox = mailbox;
  if (++next_ == crowd_) gate_.arrive_and_wait();
  if (random_.one_in(30)) engine_.reset_prefix_cache();
  act(job);  // maybe before it has begun
  return true;
}

void LoadClient::look_at(Job& job) {
  job.rounds = 0;
  for (const Event& e : job.mailbox->read()) {
    job.scheduled += e.kind == Event::Kind::kScheduled;
    Collector::Choice& c = job.choices.at(e.choice);
    if (e.kind == Event::Kind::kToken) {
      CHECK(c.finishes == 0) << "a token after the end";
      c.tokens.push_back(e.sampled);
      ++job.read;
    } else if (e.kind == Event::Kind::kFinished) {
      c.finish = e.finish;
      ++c.finishes;
    }
  }
  ended_ += job.ended();
  act(job);
}

void LoadClient::act(Job& job) {
  if (job.manner == Manner::kWhole || job.acted || job.read < job.after) return;
  job.acted = true;  // maybe of one that has ended meanwhile
  if (job.manner == Manner::kCancel) {
    engine_.cancel(job.id);
  } else {
    engine_.finish_choice(job.id, job.request.choices - 1);
  }
}

}  // namespace trireme::test
