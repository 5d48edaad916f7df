// Collectives over memory that all ranks of a host map.
//
//   rendezvous | slots of even rounds: rank 0, 1, ... | slots of odd rounds | sums: even, odd
//
// A round: every rank writes its slot, all meet, every rank reads all slots. The slots of the next
// round are others, so one meeting per round is enough: who writes a slot again has been at the
// meeting after its readers' last read. A tensor longer than a slot takes several rounds.
//
// The sum comes in two ways with the same bits. Few ranks or few bytes: every rank adds all slots
// for itself. Else every rank adds its slice of a round into `sums`, which all read after the next
// meeting; that meeting is the one that the next round has anyway.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>
#include <optional>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "comm/mpi/collectives.h"
#include "comm/mpi/shared_window.h"
#include "comm/rendezvous.h"
#include "comm/tensor_bytes.h"

namespace trireme {
namespace {

// The slots of two rounds and the tensor stay in the second-level cache.
constexpr int64_t kSlotBytes = int64_t{128} << 10;
constexpr int64_t kLineBytes = 64;

// From how many bytes on the ranks share the work of adding, when they are three or more.
constexpr int64_t kSliceBytesMin = int64_t{64} << 10;

enum class Operation : int32_t { kBarrier, kAllReduceSum, kAllGather, kBroadcast };

// What a rank is about to do, written at the head of its slot in the first round of a collective.
struct alignas(kLineBytes) Note {
  Operation operation = Operation::kBarrier;
  int32_t root = 0;
  int64_t bytes = 0;
  bool operator==(const Note&) const = default;
};

struct alignas(kLineBytes) Header {
  Rendezvous rendezvous;
  std::atomic<int32_t> gone_rank_plus_1{0};
};

constexpr int64_t kSlotStride = int64_t{sizeof(Note)} + kSlotBytes;

size_t window_bytes(int size) { return sizeof(Header) + size_t(2 * (size + 1) * kSlotStride); }

class SharedCollectives final : public Collectives {
 public:
  SharedCollectives(Buffer window, int rank, int size, Outboxes* outboxes)
      : window_(std::move(window)),
        memory_(static_cast<std::byte*>(window_.data())),
        header_(*std::launder(reinterpret_cast<Header*>(memory_))),
        rank_(rank),
        size_(size),
        outboxes_(*outboxes),
        parts_(size_t(size)) {}

  ~SharedCollectives() override {
    int32_t nobody = 0;
    header_.gone_rank_plus_1.compare_exchange_strong(nobody, rank_ + 1);
    header_.rendezvous.close();
  }

  Status all_reduce_sum(const TensorView& x) override {
    const Note note{Operation::kAllReduceSum, 0, tensor_bytes(x)};
    return size_ > 2 && note.bytes >= kSliceBytesMin ? sum_in_slices(x, note)
                                                     : sum_all_slots(x, note);
  }

  Status all_gather(const ConstTensorView& mine, const TensorView& all) override {
    const Note note{Operation::kAllGather, 0, tensor_bytes(mine)};
    copy_tensor(mine, all.row_range(rank_ * mine.rows, mine.rows));
    return in_rounds(note, true, mine, [&](int64_t first, int64_t bytes) {
      for (int r = 0; r < size_; ++r) {
        if (r != rank_)
          copy_bytes_in(slot(r), first, bytes, all.row_range(r * mine.rows, mine.rows));
      }
    });
  }

  Status broadcast(const TensorView& x, int root) override {
    const Note note{Operation::kBroadcast, root, tensor_bytes(x)};
    return in_rounds(note, rank_ == root, x, [&](int64_t first, int64_t bytes) {
      if (rank_ != root) copy_bytes_in(slot(root), first, bytes, x);
    });
  }

  Status barrier() override {
    const Note note{Operation::kBarrier, 0, 0};
    write_note(note);
    return next_round(&note);
  }

 private:
  // Gives x to the others piece by piece (when `give`) and calls read(first, bytes) when all ranks'
  // pieces are in their slots.
  template <class Read>
  Status in_rounds(const Note& note, bool give, const ConstTensorView& x, Read read) {
    write_note(note);
    int64_t first = 0;
    do {
      const int64_t bytes = std::min(kSlotBytes, note.bytes - first);
      if (give) copy_bytes_out(x, first, bytes, upcoming_slot());
      if (Status status = next_round(first == 0 ? &note : nullptr); !status.ok()) return status;
      read(first, bytes);
      first += bytes;
    } while (first < note.bytes);
    return {};
  }

  Status sum_all_slots(const TensorView& x, const Note& note) {
    return in_rounds(note, true, x, [&](int64_t first, int64_t bytes) {
      for_each_run(x.cols, x.contiguous(), first / 4, bytes / 4,
                   [&](int64_t row, int64_t col, int64_t count, int64_t done) {
                     for (int r = 0; r < size_; ++r) parts_[size_t(r)] = floats(slot(r)) + done;
                     float* out = x.f32_row(row) + col;
                     parts_[size_t(rank_)] = out;  // nearer than the slot
                     sum_in_rank_order(parts_.data(), size_, count, out);
                   });
    });
  }

  Status sum_in_slices(const TensorView& x, const Note& note) {
    write_note(note);
    int64_t summed_first = 0, summed_bytes = 0;  // what lies in the sums of the round before
    for (int64_t first = 0; first < note.bytes || summed_bytes > 0;) {
      const int64_t bytes = std::min(kSlotBytes, note.bytes - first);
      copy_bytes_out(x, first, bytes, upcoming_slot());
      if (Status status = next_round(first == 0 ? &note : nullptr); !status.ok()) return status;
      const auto before = size_t(1 - round_ % 2);
      if (summed_bytes > 0) copy_bytes_in(sums(before), summed_first, summed_bytes, x);

      const int64_t lines = (bytes + kLineBytes - 1) / kLineBytes;
      const int64_t from = lines * rank_ / size_ * kLineBytes;
      const int64_t to = std::min(lines * (rank_ + 1) / size_ * kLineBytes, bytes);
      for (int r = 0; r < size_; ++r) parts_[size_t(r)] = floats(slot(r) + from);
      if (from < to)
        sum_in_rank_order(parts_.data(), size_, (to - from) / 4,
                          floats(sums(size_t(round_ % 2)) + from));
      summed_first = first;
      summed_bytes = bytes;
      first += bytes;
    }
    return {};
  }

  // All ranks come here with their upcoming slots written; then those are the slots of this round.
  // `note`: what all ranks must be about to do, in the first round of a collective.
  Status next_round(const Note* note) {
    if (!header_.rendezvous.meet(size_, [this] { return outboxes_.poll(); })) {
      return unavailable(fmt::format("rank {} of {} on this host has left the group",
                                     header_.gone_rank_plus_1.load() - 1, size_));
    }
    ++round_;
    for (int r = 0; note != nullptr && r < size_; ++r) {
      CHECK(*note_of(round_, r) == *note)
          << "ranks do not make the same calls: rank " << rank_ << " is at operation "
          << int(note->operation) << " of " << note->bytes << " bytes, rank " << r
          << " at operation " << int(note_of(round_, r)->operation) << " of "
          << note_of(round_, r)->bytes;
    }
    return {};
  }

  void write_note(const Note& note) { *note_of(round_ + 1, rank_) = note; }

  std::byte* slot_base(int64_t round, int r) const {
    return memory_ + sizeof(Header) + (round % 2 * size_ + r) * kSlotStride;
  }
  Note* note_of(int64_t round, int r) const {
    return std::launder(reinterpret_cast<Note*>(slot_base(round, r)));
  }
  std::byte* slot(int r) const { return slot_base(round_, r) + sizeof(Note); }
  std::byte* upcoming_slot() const { return slot_base(round_ + 1, rank_) + sizeof(Note); }
  std::byte* sums(size_t parity) const {
    return memory_ + sizeof(Header) + (2 * size_ + int64_t(parity)) * kSlotStride;
  }
  static float* floats(std::byte* bytes) { return std::launder(reinterpret_cast<float*>(bytes)); }

  Buffer window_;
  std::byte* const memory_;  // of the window
  Header& header_;
  const int rank_, size_;
  Outboxes& outboxes_;
  std::vector<const float*> parts_;
  int64_t round_ = 0;  // the same on all ranks
};

}  // namespace

Result<std::unique_ptr<Collectives>> make_shared_collectives(MPI_Comm comm, Outboxes* outboxes) {
  int rank = 0, size = 0;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
  auto window = make_shared_window(comm, window_bytes(size));
  if (!window.ok()) return window.status();
  if (window->data() == nullptr) return std::unique_ptr<Collectives>();
  return std::unique_ptr<Collectives>(
      std::make_unique<SharedCollectives>(window.take(), rank, size, outboxes));
}

}  // namespace trireme
