// Collectives over MPI's own messages, for ranks on any hosts. Data goes through work space in
// pieces, so that strides and sizes beyond int are nothing special. Nonblocking calls throughout:
// mpi_wait lets an idle rank sleep, and messages under way get on.
//
// The sum: few ranks or few bytes: everybody gathers all parts and adds them. Else each rank gets
// everybody's parts of its own slice, adds them, and the slices are gathered: 2 (n - 1) / n of the
// bytes arrive at a rank instead of n - 1 times the bytes. MPI_Allreduce is not used: its order of
// adding depends on the size.
#include <algorithm>
#include <vector>

#include "comm/mpi/collectives.h"
#include "comm/mpi/mpi_call.h"
#include "comm/tensor_bytes.h"

namespace trireme {
namespace {

constexpr int64_t kPieceBytes = int64_t{1} << 20;
constexpr int64_t kPieceFloats = kPieceBytes / 4;
constexpr int64_t kLineFloats = 16;

// Up to this many bytes at each rank, gathering everything has fewer steps and is faster.
constexpr int64_t kGatherBytesMax = int64_t{64} << 10;

class MessageCollectives final : public Collectives {
 public:
  MessageCollectives(MPI_Comm comm, int rank, int size)
      : comm_(comm),
        rank_(rank),
        size_(size),
        mine_(size_t(kPieceFloats + size * kLineFloats)),
        all_(size_t(size) * size_t(kPieceFloats)),
        parts_(size_t(size)) {}

  Status all_reduce_sum(const TensorView& x) override {
    const int64_t total = x.rows * x.cols;
    for (int64_t first = 0; first < total; first += kPieceFloats) {
      const int64_t count = std::min(kPieceFloats, total - first);
      const bool gather = size_ == 2 || count * 4 <= kGatherBytesMax;
      Status status = gather ? sum_gathered(x, first, count) : sum_in_slices(x, first, count);
      if (!status.ok()) return status;
    }
    return {};
  }

  Status all_gather(const ConstTensorView& mine, const TensorView& all) override {
    const int64_t total = tensor_bytes(mine);
    for (int64_t first = 0; first < total; first += kPieceBytes) {
      const int64_t bytes = std::min(kPieceBytes, total - first);
      copy_bytes_out(mine, first, bytes, as_bytes(mine_));
      if (Status status = gather_pieces(bytes, "all_gather"); !status.ok()) return status;
      for (int r = 0; r < size_; ++r) {
        const TensorView rows = all.row_range(r * mine.rows, mine.rows);
        if (r == rank_ && rows.data == mine.data) continue;
        copy_bytes_in(as_bytes(all_) + r * bytes, first, bytes, rows);
      }
    }
    return {};
  }

  Status broadcast(const TensorView& x, int root) override {
    const int64_t total = tensor_bytes(x);
    for (int64_t first = 0; first < total; first += kPieceBytes) {
      const int64_t bytes = std::min(kPieceBytes, total - first);
      if (rank_ == root) copy_bytes_out(x, first, bytes, as_bytes(mine_));
      MPI_Request request = MPI_REQUEST_NULL;
      Status status = mpi_status(
          MPI_Ibcast(mine_.data(), int(bytes), MPI_BYTE, root, comm_, &request), "broadcast");
      if (status.ok()) status = mpi_wait(&request, "broadcast");
      if (!status.ok()) return status;
      if (rank_ != root) copy_bytes_in(as_bytes(mine_), first, bytes, x);
    }
    return {};
  }

  Status barrier() override {
    MPI_Request request = MPI_REQUEST_NULL;
    Status status = mpi_status(MPI_Ibarrier(comm_, &request), "barrier");
    return status.ok() ? mpi_wait(&request, "barrier") : status;
  }

 private:
  // all_ = every rank's first `bytes` of mine_, in rank order.
  Status gather_pieces(int64_t bytes, const char* what) {
    MPI_Request request = MPI_REQUEST_NULL;
    Status status = mpi_status(MPI_Iallgather(mine_.data(), int(bytes), MPI_BYTE, all_.data(),
                                              int(bytes), MPI_BYTE, comm_, &request),
                               what);
    return status.ok() ? mpi_wait(&request, what) : status;
  }

  Status sum_gathered(const TensorView& x, int64_t first, int64_t count) {
    copy_bytes_out(x, first * 4, count * 4, as_bytes(mine_));
    if (Status status = gather_pieces(count * 4, "all_reduce_sum"); !status.ok()) return status;
    for (int r = 0; r < size_; ++r) parts_[size_t(r)] = all_.data() + r * count;
    sum_in_rank_order(parts_.data(), size_, count, mine_.data());
    copy_bytes_in(as_bytes(mine_), first * 4, count * 4, x);
    return {};
  }

  // Slice r is elements [r * slice, (r + 1) * slice) of the piece; the last ones may be padding.
  Status sum_in_slices(const TensorView& x, int64_t first, int64_t count) {
    const int64_t per_rank = (count + size_ - 1) / size_;
    const int64_t slice = (per_rank + kLineFloats - 1) / kLineFloats * kLineFloats;
    copy_bytes_out(x, first * 4, count * 4, as_bytes(mine_));
    std::fill(mine_.begin() + count, mine_.begin() + slice * size_, 0.0f);
    MPI_Request request = MPI_REQUEST_NULL;
    Status status = mpi_status(MPI_Ialltoall(mine_.data(), int(slice), MPI_FLOAT, all_.data(),
                                             int(slice), MPI_FLOAT, comm_, &request),
                               "all_reduce_sum");
    if (status.ok()) status = mpi_wait(&request, "all_reduce_sum");
    if (!status.ok()) return status;
    for (int r = 0; r < size_; ++r) parts_[size_t(r)] = all_.data() + r * slice;
    sum_in_rank_order(parts_.data(), size_, slice, mine_.data());
    status = gather_pieces(slice * 4, "all_reduce_sum");
    if (status.ok()) copy_bytes_in(as_bytes(all_), first * 4, count * 4, x);
    return status;
  }

  static std::byte* as_bytes(std::vector<float>& floats) {
    return reinterpret_cast<std::byte*>(floats.data());
  }

  MPI_Comm comm_;
  const int rank_, size_;
  std::vector<float> mine_;  // [a piece, and a line of padding for each rank]
  std::vector<float> all_;   // [size, a piece]
  std::vector<const float*> parts_;
};

}  // namespace

std::unique_ptr<Collectives> make_message_collectives(MPI_Comm comm) {
  int rank = 0, size = 0;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
  return std::make_unique<MessageCollectives>(comm, rank, size);
}

}  // namespace trireme
