#include "comm/nccl/nccl_communicator.h"

#include <utility>
#include <vector>

#include "comm/nccl/device_memory.h"
#include "comm/nccl/nccl_rank.h"
#include "comm/nccl/sender.h"
#include "comm/tensor_bytes.h"

namespace trireme {
namespace {

// How the ranks of a new NCCL communicator find one another: its first rank tells the others.
struct Invitation {
  NcclUniqueId id{};
  int32_t result = kNcclSuccess;  // else the first rank could not make an id
};

TensorView bytes_of(Invitation& invitation) {
  return tensor(&invitation, 1, sizeof(Invitation), DType::kI8);
}

class NcclGroup final : public NcclCommunicator {
 public:
  NcclGroup(std::shared_ptr<NcclRank> rank, std::unique_ptr<Communicator> control)
      : nccl_(std::move(rank)),
        control_(std::move(control)),
        senders_(static_cast<size_t>(control_->size())),
        receivers_(static_cast<size_t>(control_->size())),
        scratch_(nccl_->device()) {}

  ~NcclGroup() override {
    senders_.clear();  // first: what was sent goes out
    for (auto& link : receivers_) {
      if (link != nullptr) nccl_->close(*link);
    }
    nccl_->close(group_);
  }

  int rank() const override { return control_->rank(); }
  int size() const override { return control_->size(); }
  bool capturable() const override { return true; }
  Status queued_recording() override { return watch_queue("a recorded step"); }
  Status status() const override { return nccl_->status(); }

  Status all_reduce_sum(TensorView x) override {
    CHECK(x.dtype == DType::kF32);
    if (Status s = nccl_->enter(); !s.ok()) return s;
    if (x.place == Place::kHost) return control_->all_reduce_sum(x);
    const NcclWork work = named("all_reduce_sum");
    const auto count = static_cast<size_t>(x.rows * x.cols);
    if (size() == 1 || count == 0) return {};
    if (Status s = connect(); !s.ok()) return s;
    Result<void*> packed = pack(x, work, true);
    if (!packed.ok()) return packed.status();
    Status status = nccl_->queue_work(group_, work, [&](NcclComm* comm) {
      return nccl_->api().all_reduce(*packed, *packed, count, kNcclFloat32, kNcclSum, comm,
                                     nccl_->queue());
    });
    return status.ok() ? unpack(*packed, x, work) : status;
  }

  Status all_gather(ConstTensorView mine, TensorView all) override {
    CHECK(all.rows == size() * mine.rows && all.cols == mine.cols && all.dtype == mine.dtype);
    CHECK(mine.place == all.place);
    if (Status s = nccl_->enter(); !s.ok()) return s;
    if (mine.place == Place::kHost) return control_->all_gather(mine, all);
    const NcclWork work = named("all_gather");
    const int64_t bytes = tensor_bytes(mine);
    if (bytes == 0) return {};
    if (size() == 1) return mine.data == all.data ? Status() : copied(mine, all, work);
    if (Status s = connect(); !s.ok()) return s;
    Result<void*> gathered = pack(all, work, false);
    if (!gathered.ok()) return gathered.status();
    const void* from = mine.data;
    if (!mine.contiguous()) {  // packed at its own place
      const TensorView place = tensor(static_cast<std::byte*>(*gathered) + rank() * bytes,
                                      mine.rows, mine.cols, mine.dtype, mine.place);
      if (Status s = copied(mine, place, work); !s.ok()) return s;
      from = place.data;
    }
    Status status = nccl_->queue_work(group_, work, [&](NcclComm* comm) {
      return nccl_->api().all_gather(from, *gathered, static_cast<size_t>(bytes), kNcclUint8, comm,
                                     nccl_->queue());
    });
    return status.ok() ? unpack(*gathered, all, work) : status;
  }

  Status broadcast(TensorView x, int root) override {
    CHECK(root >= 0 && root < size());
    if (Status s = nccl_->enter(); !s.ok()) return s;
    if (x.place == Place::kHost) return control_->broadcast(x, root);
    const NcclWork work = named("broadcast");
    const auto bytes = static_cast<size_t>(tensor_bytes(x));
    if (size() == 1 || bytes == 0) return {};
    if (Status s = connect(); !s.ok()) return s;
    Result<void*> packed = pack(x, work, rank() == root);
    if (!packed.ok()) return packed.status();
    Status status = nccl_->queue_work(group_, work, [&](NcclComm* comm) {
      return nccl_->api().broadcast(*packed, *packed, bytes, kNcclUint8, root, comm,
                                    nccl_->queue());
    });
    if (!status.ok() || rank() == root) return status;
    return unpack(*packed, x, work);
  }

  Status send(ConstTensorView x, int to) override {
    CHECK(to >= 0 && to < size() && to != rank());
    if (Status s = nccl_->enter(); !s.ok()) return s;
    if (x.place == Place::kHost) return control_->send(x, to);
    CHECK(!nccl_->recording()) << "send may not be recorded into a graph";
    std::unique_ptr<NcclSender>& sender = senders_[static_cast<size_t>(to)];
    if (sender == nullptr) {
      if (Status s = open_sender(sender, to); !s.ok()) return s;
    }
    int64_t bytes = tensor_bytes(x);
    if (nccl_->options().check_messages) {
      if (Status s = control_->send(tensor(&bytes, 1, 1, DType::kI64), to); !s.ok()) return s;
    }
    return bytes == 0 ? Status() : sender->send(x);
  }

  // On the queue itself: what is queued later needs x, or comes after what does. The queue stands
  // still until the message is there.
  Status receive(TensorView x, int from) override {
    CHECK(from >= 0 && from < size() && from != rank());
    if (Status s = nccl_->enter(); !s.ok()) return s;
    if (x.place == Place::kHost) return control_->receive(x, from);
    CHECK(!nccl_->recording()) << "receive may not be recorded into a graph";
    const NcclWork work = named("receive", "from", from);
    std::unique_ptr<NcclLink>& link = receivers_[static_cast<size_t>(from)];
    if (link == nullptr) {
      if (Status s = open_receiver(link, work); !s.ok()) return s;
    }
    const int64_t bytes = tensor_bytes(x);
    if (nccl_->options().check_messages) {
      if (Status s = check_message(x, from); !s.ok()) return s;
    }
    if (bytes == 0) return {};
    Result<void*> packed = pack(x, work, false);
    if (!packed.ok()) return packed.status();
    Status status = nccl_->queue_work(*link, work, [&](NcclComm* comm) {
      return nccl_->api().receive(*packed, static_cast<size_t>(bytes), kNcclUint8, 0, comm,
                                  nccl_->queue());
    });
    return status.ok() ? unpack(*packed, x, work) : status;
  }

  Status barrier() override {
    if (Status s = nccl_->enter(); !s.ok()) return s;
    return control_->barrier();
  }

  Result<std::unique_ptr<Communicator>> split(int color, int key) override {
    if (Status s = nccl_->enter(); !s.ok()) return s;
    auto child = control_->split(color, key);
    if (!child.ok()) return child.status();
    return std::unique_ptr<Communicator>(std::make_unique<NcclGroup>(nccl_, child.take()));
  }

  Status register_buffer(void* data, size_t bytes) override {
    if (Status s = nccl_->enter(); !s.ok()) return s;
    if (size() == 1) return {};
    if (Status s = connect(); !s.ok()) return s;
    return nccl_->register_buffer(group_, data, bytes);
  }
  void unregister_buffer(void* data) override { nccl_->unregister_buffer(group_, data); }

  Status watch_queue(const char* what) override {
    if (Status s = nccl_->enter(); !s.ok()) return s;
    return nccl_->watch_queue(named(what));
  }

 private:
  NcclWork named(const char* op, const char* way = "", int peer = 0) const {
    return {op, rank(), size(), way, peer};
  }

  // Makes the group's communicator, in its first collective on the device.
  Status connect() {
    if (group_.opened) return {};
    CHECK(!nccl_->recording()) << "a group's first collective may not be recorded into a graph";
    Invitation invitation;
    if (rank() == 0) invitation.result = nccl_->api().get_unique_id(&invitation.id);
    if (Status s = control_->broadcast(bytes_of(invitation), 0); !s.ok()) return s;
    const NcclWork work = named("connecting");
    if (Status s = accept(invitation, work); !s.ok()) return s;
    if (Status s = nccl_->open(group_, size(), invitation.id, rank()); !s.ok()) return s;
    return nccl_->wait(group_, work);
  }

  // The invitation goes ahead of the first message, over control, which keeps messages in order.
  Status open_sender(std::unique_ptr<NcclSender>& sender, int to) {
    Invitation invitation;
    invitation.result = nccl_->api().get_unique_id(&invitation.id);
    if (Status s = control_->send(bytes_of(invitation), to); !s.ok()) return s;
    const NcclWork work = named("send", "to", to);
    if (Status s = accept(invitation, work); !s.ok()) return s;
    auto made = NcclSender::make(*nccl_, invitation.id, work);
    if (!made.ok()) return made.status();
    sender = made.take();
    return {};
  }
  Status open_receiver(std::unique_ptr<NcclLink>& link, const NcclWork& work) {
    Invitation invitation;
    if (Status s = control_->receive(bytes_of(invitation), work.peer); !s.ok()) return s;
    if (Status s = accept(invitation, work); !s.ok()) return s;
    link = std::make_unique<NcclLink>();
    if (Status s = nccl_->open(*link, 2, invitation.id, 1); !s.ok()) return s;
    return nccl_->wait(*link, work);
  }
  Status accept(const Invitation& invitation, const NcclWork& work) {
    const auto result = static_cast<NcclResult>(invitation.result);
    if (result == kNcclSuccess) return {};
    return nccl_->fail(nccl_->result_status(work, nullptr, result));
  }

  Status check_message(const TensorView& x, int from) {
    int64_t arriving = 0;
    if (Status s = control_->receive(tensor(&arriving, 1, 1, DType::kI64), from); !s.ok()) return s;
    if (arriving == tensor_bytes(x)) return {};
    return nccl_->wrong_message(named("receive", "from", from), arriving, tensor_bytes(x));
  }

  // x itself, or room for it without gaps, filled with x where `filled`.
  Result<void*> pack(const TensorView& x, const NcclWork& work, bool filled) {
    if (x.contiguous()) return x.data;
    Result<void*> room = scratch_.get(tensor_bytes(x), nccl_->recording());
    if (!room.ok() || !filled) return room;
    Status status = copied(x, tensor(*room, x.rows, x.cols, x.dtype, x.place), work);
    return status.ok() ? room : Result<void*>(status);
  }
  Status unpack(void* packed, const TensorView& x, const NcclWork& work) {
    if (packed == x.data) return {};
    return copied(tensor(packed, x.rows, x.cols, x.dtype, x.place), x, work);
  }
  Status copied(const ConstTensorView& from, const TensorView& to, const NcclWork& work) {
    const cudaError_t error = queue_copy(from, to, nccl_->queue());
    return error == cudaSuccess ? Status() : nccl_->fail(nccl_->cuda_error_status(work, error));
  }

  const std::shared_ptr<NcclRank> nccl_;
  const std::unique_ptr<Communicator> control_;
  NcclLink group_;                                    // all ranks; opened by connect()
  std::vector<std::unique_ptr<NcclSender>> senders_;  // by rank; null until the first send
  std::vector<std::unique_ptr<NcclLink>> receivers_;  // by rank; this rank is rank 1 of it
  DeviceScratch scratch_;                             // of calls on the queue, one after the other
};

}  // namespace

Result<std::unique_ptr<NcclCommunicator>> make_nccl_communicator(
    std::unique_ptr<Communicator> control, Device& device, const NcclApi& api,
    const NcclOptions& options) {
  auto rank = NcclRank::make(api, device, options, control->rank(), control->size());
  if (!rank.ok()) return rank.status();
  return std::unique_ptr<NcclCommunicator>(
      std::make_unique<NcclGroup>(rank.take(), std::move(control)));
}

}  // namespace trireme
