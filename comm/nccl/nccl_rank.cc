#include "comm/nccl/nccl_rank.h"

#include <algorithm>

#include <fmt/format.h>

#include "comm/nccl/sender.h"

namespace trireme {

Result<std::shared_ptr<NcclRank>> NcclRank::make(const NcclApi& api, Device& device,
                                                 const NcclOptions& options, int rank, int size) {
  CHECK(device.place() == Place::kCuda && device.queue() != nullptr);
  auto made = std::make_shared<NcclRank>(api, device, options, rank, size);
  if (Status s = made->enter(); !s.ok()) return s;
  return made;
}

NcclRank::NcclRank(const NcclApi& api, Device& device, const NcclOptions& options, int rank,
                   int size)
    : api_(api),
      device_(device),
      options_(options),
      queue_(static_cast<cudaStream_t>(device.queue())),
      rank_(rank),
      size_(size) {
  watchdog_ = std::thread([this] { watchdog(); });
}

NcclRank::~NcclRank() {
  {
    const Lock lock(mutex_);
    CHECK(links_.empty() && senders_.empty());
    stop_ = true;
  }
  wake_.notify_all();
  watchdog_.join();
}

bool NcclRank::recording() const {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  (void)cudaStreamIsCapturing(queue_, &status);
  return status != cudaStreamCaptureStatusNone;
}

Status NcclRank::enter() {
  if (const cudaError_t error = cudaSetDevice(options_.ordinal); error != cudaSuccess)
    return unavailable(fmt::format("rank {} of {}: GPU {} does not answer: {}", rank_, size_,
                                   options_.ordinal, cudaGetErrorString(error)));
  return status();
}

Status NcclRank::status() const {
  const Lock lock(mutex_);
  return failure_;
}

Status NcclRank::fail(const Status& why) {
  std::vector<NcclComm*> taken;
  {
    const Lock lock(mutex_);
    if (!failure_.ok()) return failure_;
    failure_ = why;
    for (NcclLink* link : links_) taken.push_back(std::exchange(link->comm, nullptr));
  }
  if (options_.on_failure) options_.on_failure(why);
  for (NcclComm* comm : taken) (void)api_.comm_abort(comm);
  {
    const Lock lock(mutex_);
    aborted_ = true;
  }
  wake_.notify_all();
  return why;
}

Status NcclRank::open(NcclLink& link, int size, const NcclUniqueId& id, int rank) {
  CHECK(!link.opened);
  NcclConfig config;
  config.blocking = 0;
  NcclResult result = kNcclSuccess;
  {
    const Lock lock(mutex_);
    if (!failure_.ok()) return failure_;
    link.opened = true;
    result = api_.comm_init_rank_config(&link.comm, size, id, rank, &config);
    if (link.comm != nullptr) links_.push_back(&link);
  }
  if (result == kNcclSuccess || result == kNcclInProgress) return {};
  return fail(result_status({"connecting", rank, size}, nullptr, result));
}

Status NcclRank::wait(NcclLink& link, const NcclWork& work) {
  Lock lock(mutex_);
  if (!failure_.ok()) return failure_;
  return settle(lock, link, work, kNcclInProgress, false);
}

// The answer to a call is kNcclInProgress while NCCL still works on it. Nothing that depends on the
// call may be queued before that is over.
Status NcclRank::settle(Lock& lock, NcclLink& link, const NcclWork& work, NcclResult result,
                        bool watch) {
  const Clock::time_point start = now();
  Status status;
  for (Pause pause; result == kNcclInProgress && status.ok();) {
    const NcclResult asked = api_.comm_get_async_error(link.comm, &result);
    if (asked != kNcclSuccess) result = asked;
    if (result != kNcclInProgress) break;
    const Clock::time_point at = now();
    if (at - start > options_.connect_deadline)
      status = overdue_status(work, options_.connect_deadline);
    // What this rank has sent may be what its peers wait for before they come here.
    if (status.ok()) status = advance_senders(at);
    lock.unlock();
    if (status.ok()) pause();
    lock.lock();
    if (!failure_.ok()) return failure_;
  }
  if (status.ok() && result != kNcclSuccess) status = result_status(work, link.comm, result);
  if (status.ok() && watch) status = record_watch(lock, work);
  if (status.ok()) return status;
  lock.unlock();
  return fail(status);
}

Status NcclRank::watch_queue(const NcclWork& work) {
  CHECK(!recording());
  Lock lock(mutex_);
  if (!failure_.ok()) return failure_;
  Status status = record_watch(lock, work);
  if (status.ok()) return status;
  lock.unlock();
  return fail(status);
}

// More pieces of work than the list holds are not queued ahead: the host waits for the oldest.
Status NcclRank::record_watch(Lock& lock, const NcclWork& work) {
  for (Pause pause; watched_.full();) {
    if (const cudaError_t error = watched_.look(now()); error != cudaSuccess)
      return cuda_error_status(watched_.head(), error);
    if (!watched_.full()) break;
    lock.unlock();
    pause();
    lock.lock();
    if (!failure_.ok()) return failure_;
  }
  const cudaError_t error = watched_.add(queue_, work, now());
  return error == cudaSuccess ? Status() : cuda_error_status(work, error);
}

void NcclRank::take_out(NcclLink& link) {
  links_.erase(std::remove(links_.begin(), links_.end(), &link), links_.end());
}

void NcclRank::close(NcclLink& link, bool gently) {
  NcclComm* comm = nullptr;
  {
    Lock lock(mutex_);
    wake_.wait(lock, [this] { return failure_.ok() || aborted_; });
    take_out(link);
    comm = std::exchange(link.comm, nullptr);
  }
  if (comm == nullptr) return;
  bool done = gently && finished(comm);
  if (done) {
    for (const auto& [buffer, handle] : link.registered) (void)api_.comm_deregister(comm, handle);
    const NcclResult result = api_.comm_finalize(comm);
    done = (result == kNcclSuccess || result == kNcclInProgress) && finished(comm);
  }
  // A peer may never do its part: then the rank leaves alone, so that nobody waits for ever.
  (void)(done ? api_.comm_destroy(comm) : api_.comm_abort(comm));
}

// Waits for a communicator that this thread alone knows.
bool NcclRank::finished(NcclComm* comm) {
  const Clock::time_point start = now();
  NcclResult state = kNcclInProgress;
  for (Pause pause; now() - start < options_.finish_deadline; pause()) {
    if (api_.comm_get_async_error(comm, &state) != kNcclSuccess) return false;
    if (state != kNcclInProgress) break;
  }
  return state == kNcclSuccess;
}

Status NcclRank::register_buffer(NcclLink& link, void* data, size_t bytes) {
  void* handle = nullptr;
  NcclComm* comm = nullptr;
  NcclResult result = kNcclSuccess;
  {
    const Lock lock(mutex_);
    if (!failure_.ok()) return failure_;
    comm = link.comm;
    result = api_.comm_register(comm, data, bytes, &handle);
  }
  if (result != kNcclSuccess) return fail(result_status({"registering memory"}, nullptr, result));
  link.registered.emplace_back(data, handle);
  return {};
}

void NcclRank::unregister_buffer(NcclLink& link, void* data) {
  const auto found = std::find_if(link.registered.begin(), link.registered.end(),
                                  [data](const auto& r) { return r.first == data; });
  if (found == link.registered.end()) return;
  const Lock lock(mutex_);
  if (link.comm != nullptr) (void)api_.comm_deregister(link.comm, found->second);
  link.registered.erase(found);
}

void NcclRank::attach(NcclSender* sender) {
  const Lock lock(mutex_);
  senders_.push_back(sender);
}
void NcclRank::detach(NcclSender* sender) {
  const Lock lock(mutex_);
  senders_.erase(std::remove(senders_.begin(), senders_.end(), sender), senders_.end());
}

Status NcclRank::advance_senders(Clock::time_point at) {
  for (NcclSender* sender : senders_) {
    if (Status s = sender->advance(at); !s.ok()) return s;
  }
  return {};
}

// Everything that can be seen to go wrong.
Status NcclRank::look(Clock::time_point at) {
  for (const NcclLink* link : links_) {
    NcclResult state = kNcclSuccess;
    const NcclResult asked = api_.comm_get_async_error(link->comm, &state);
    if (asked != kNcclSuccess) state = asked;
    if (state != kNcclSuccess && state != kNcclInProgress)
      return result_status(watched_.empty() ? NcclWork{"between two calls"} : watched_.head(),
                           link->comm, state);
  }
  if (Status s = advance_senders(at); !s.ok()) return s;
  if (const cudaError_t error = watched_.look(at); error != cudaSuccess)
    return cuda_error_status(watched_.head(), error);
  if (!watched_.empty() && watched_.head_age(at) > options_.work_deadline)
    return overdue_status(watched_.head(), options_.work_deadline);
  return {};
}

void NcclRank::watchdog() {
  (void)cudaSetDevice(options_.ordinal);
  // The rank's thread may be recording: asking for events here must not spoil it.
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  (void)cudaThreadExchangeStreamCaptureMode(&mode);
  Lock lock(mutex_);
  while (!stop_) {
    if (!failure_.ok()) {
      wake_.wait(lock, [this] { return stop_; });
      break;
    }
    const bool sends_wait = std::any_of(senders_.begin(), senders_.end(),
                                        [](const NcclSender* s) { return s->waiting(); });
    wake_.wait_for(lock, sends_wait ? std::min(options_.poll_interval, std::chrono::milliseconds(1))
                                    : options_.poll_interval);
    if (stop_ || !failure_.ok()) continue;
    Status status = look(now());
    if (status.ok()) continue;
    lock.unlock();
    (void)fail(status);
    lock.lock();
  }
}

std::string NcclRank::named(const NcclWork& work) const {
  std::string text = fmt::format("rank {} of {}: {}", rank_, size_, work.op);
  if (*work.way != '\0') text += fmt::format(" {} rank {}", work.way, work.peer);
  if (work.size > 1) text += fmt::format(" in a group of {} (there rank {})", work.size, work.rank);
  return text;
}

Status NcclRank::result_status(const NcclWork& work, NcclComm* comm, NcclResult result) const {
  std::string words = api_.get_error_string(result);
  const char* last = comm == nullptr ? nullptr : api_.get_last_error(comm);
  if (last != nullptr && *last != '\0') words += fmt::format(" ({})", last);
  return unavailable(fmt::format("{}: NCCL says: {}", named(work), words));
}

Status NcclRank::cuda_error_status(const NcclWork& work, cudaError_t error) const {
  return unavailable(fmt::format("{}: {}", named(work), cudaGetErrorString(error)));
}

Status NcclRank::overdue_status(const NcclWork& work, std::chrono::milliseconds deadline) const {
  return {StatusCode::kDeadlineExceeded,
          fmt::format("{} did not end within {} s: another rank is gone, or does not make the same "
                      "calls",
                      named(work), static_cast<double>(deadline.count()) / 1000)};
}

Status NcclRank::wrong_message(const NcclWork& work, int64_t arriving, int64_t expected) const {
  return data_loss(fmt::format(
      "{}: {} bytes arrive where {} were expected: the two ranks disagree on what is sent",
      named(work), arriving, expected));
}

}  // namespace trireme
