#include "comm/mpi/mpi_communicator.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "comm/mpi/collectives.h"
#include "comm/mpi/mpi_call.h"
#include "comm/tensor_bytes.h"

namespace trireme {
namespace {

constexpr int kTag = 0;

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(MPI_Comm comm, const MpiOptions& options, Outboxes* outboxes)
      : comm_(comm), options_(options), outboxes_(outboxes), outbox_(comm, kTag, outboxes) {
    MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
  }

  ~MpiCommunicator() override { MPI_Comm_free(&comm_); }

  // Every rank calls it, once, before anything else.
  Status connect() {
    if (size_ == 1) return {};
    if (options_.shared_memory) {
      auto shared = make_shared_collectives(comm_, outboxes_);
      if (!shared.ok()) return shared.status();
      collectives_ = shared.take();
    }
    if (collectives_ == nullptr) collectives_ = make_message_collectives(comm_);
    return {};
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  Status all_reduce_sum(TensorView x) override {
    CHECK(x.dtype == DType::kF32 && x.place == Place::kHost);
    if (size_ == 1) return {};
    return named(collectives_->all_reduce_sum(x));
  }

  Status all_gather(ConstTensorView mine, TensorView all) override {
    CHECK(all.rows == size_ * mine.rows && all.cols == mine.cols && all.dtype == mine.dtype);
    CHECK(mine.place == Place::kHost && all.place == Place::kHost);
    if (size_ == 1) {
      copy_tensor(mine, all);
      return {};
    }
    return named(collectives_->all_gather(mine, all));
  }

  Status broadcast(TensorView x, int root) override {
    CHECK(root >= 0 && root < size_ && x.place == Place::kHost);
    if (size_ == 1) return {};
    return named(collectives_->broadcast(x, root));
  }

  Status barrier() override {
    if (size_ == 1) return {};
    return named(collectives_->barrier());
  }

  Status send(ConstTensorView x, int to) override {
    CHECK(to >= 0 && to < size_ && to != rank_ && x.place == Place::kHost);
    return named(outbox_.send(x, to));
  }

  Status receive(TensorView x, int from) override {
    CHECK(from >= 0 && from < size_ && from != rank_ && x.place == Place::kHost);
    (void)outbox_.poll();
    const int64_t bytes = tensor_bytes(x);
    auto* into = static_cast<std::byte*>(x.data);
    if (!x.contiguous()) {
      if (int64_t(packed_.size()) < bytes) packed_.resize(size_t(bytes));
      into = packed_.data();
    }
    int64_t first = 0;
    do {
      const int64_t n = std::min(kMessagePieceBytes, bytes - first);
      if (Status status = receive_piece(into + first, int(n), from); !status.ok())
        return named(status);
      first += n;
    } while (first < bytes);
    if (!x.contiguous()) copy_bytes_in(into, 0, bytes, x);
    return {};
  }

  Result<std::unique_ptr<Communicator>> split(int color, int key) override {
    CHECK(color >= 0);
    MPI_Comm child = MPI_COMM_NULL;
    Status status = mpi_status(MPI_Comm_split(comm_, color, key, &child), "split");
    if (!status.ok()) return named(status);
    return make_mpi_communicator(child, options_, outboxes_);
  }

 private:
  // The length is known before the message is received: Open MPI 4.1.4 crashes when a long message
  // (one that the receiver fetches from the sender's memory) is truncated.
  Status receive_piece(std::byte* into, int bytes, int from) {
    MPI_Message message = MPI_MESSAGE_NULL;
    int arriving = 0;
    Status status = mpi_next_message(comm_, from, kTag, &message, &arriving);
    std::vector<std::byte> unwanted;
    if (status.ok() && arriving != bytes) {
      unwanted.resize(size_t(arriving));
      into = unwanted.data();
    }
    MPI_Request request = MPI_REQUEST_NULL;
    if (status.ok()) {
      const int code = MPI_Imrecv(into, arriving, MPI_BYTE, &message, &request);
      status = mpi_status(code, "receiving it");
    }
    if (status.ok()) status = mpi_wait(&request, "receiving it");
    if (!status.ok()) return status.at(fmt::format("receive from rank {}", from));
    if (arriving == bytes) return {};
    return data_loss(
        fmt::format("receive from rank {}: {} bytes arrived where {} were expected: the two ranks "
                    "disagree on what is sent",
                    from, arriving, bytes));
  }

  Status named(const Status& status) const {
    return status.ok() ? status : status.at(fmt::format("rank {} of {}", rank_, size_));
  }

  MPI_Comm comm_;
  const MpiOptions options_;
  Outboxes* outboxes_;
  int rank_ = 0, size_ = 1;
  Outbox outbox_;
  std::unique_ptr<Collectives> collectives_;  // null in a group of one
  std::vector<std::byte> packed_;             // room for receiving into strided tensors
};

}  // namespace

Result<std::unique_ptr<Communicator>> make_mpi_communicator(MPI_Comm comm,
                                                            const MpiOptions& options,
                                                            Outboxes* outboxes) {
  auto communicator = std::make_unique<MpiCommunicator>(comm, options, outboxes);
  if (Status status = communicator->connect(); !status.ok()) return status;
  return std::unique_ptr<Communicator>(std::move(communicator));
}

}  // namespace trireme
