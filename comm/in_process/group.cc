#include "comm/in_process/group.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "comm/tensor_bytes.h"

namespace trireme {
namespace {

constexpr int64_t kUnderWayBytesMax = int64_t{64} << 20;  // of one sender to one receiver

// Up to this many bytes moved in all, one rank does the work of all: a second meeting costs more.
constexpr int64_t kAloneBytesMax = int64_t{64} << 10;

std::string_view operation_name(InProcessGroup::Operation operation) {
  switch (operation) {
    case InProcessGroup::Operation::kBarrier:
      return "barrier";
    case InProcessGroup::Operation::kAllReduceSum:
      return "all_reduce_sum";
    case InProcessGroup::Operation::kAllGather:
      return "all_gather";
    case InProcessGroup::Operation::kBroadcast:
      return "broadcast";
    case InProcessGroup::Operation::kSplit:
      return "split";
  }
  return "unknown";
}

// Whether every rank does its own share, and they meet again. Every rank comes to the same answer.
bool all_work(const InProcessGroup::Post& post, int size) {
  const int64_t bytes = tensor_bytes(post.mine) * size;
  return bytes * (post.operation == InProcessGroup::Operation::kAllGather ? size : 1) >
         kAloneBytesMax;
}

}  // namespace

InProcessGroup::InProcessGroup(int size)
    : size_(size),
      posts_(size_t(size)),
      mailboxes_(size_t(size) * size_t(size)),
      parts_(size_t(size) * size_t(size)) {}

Status InProcessGroup::collective(int rank, Post& post) {
  const Operation operation = post.operation;
  const bool together = all_work(post, size_);
  Post& mine = posts_[size_t(rank)];
  mine = std::move(post);
  const Rendezvous::Ticket ticket = rendezvous_.arrive(size_);
  bool done = ticket.arrival == Rendezvous::Arrival::kLast;
  if (done) {
    CHECK(all_post_the_same()) << "ranks do not make the same calls: rank " << rank << " calls "
                               << operation_name(operation);
    if (!together) {
      for (int r = 0; r < size_; ++r) do_share(r);
    }
    rendezvous_.release();
  } else if (ticket.arrival == Rendezvous::Arrival::kWaiting) {
    done = rendezvous_.wait(ticket);
  }
  if (done && together) {
    do_share(rank);
    done = rendezvous_.meet(size_);
  }
  if (!done) return gone(gone_rank_.load(), operation_name(operation));
  post = std::move(mine);
  return {};
}

bool InProcessGroup::all_post_the_same() const {
  const Post& a = posts_.front();
  return std::all_of(posts_.begin(), posts_.end(), [&](const Post& b) {
    return a.operation == b.operation && a.root == b.root && a.mine.rows == b.mine.rows &&
           a.mine.cols == b.mine.cols && a.mine.dtype == b.mine.dtype;
  });
}

void InProcessGroup::do_share(int rank) {
  switch (posts_.front().operation) {
    case Operation::kBarrier:
      return;
    case Operation::kAllReduceSum:
      return sum_share(rank);
    case Operation::kAllGather:
      return gather_share(rank);
    case Operation::kBroadcast: {
      const Post& post = posts_[size_t(rank)];
      return copy_tensor(posts_[size_t(post.root)].mine, post.x);
    }
    case Operation::kSplit:
      if (rank == 0) make_children();
      return;
  }
}

// The share of a sum is a slice of the elements, of all ranks' tensors.
void InProcessGroup::sum_share(int rank) {
  constexpr int64_t kLine = 64 / sizeof(float);  // slices meet at the bounds of cache lines
  const TensorView& x = posts_.front().x;
  const int64_t lines = (x.rows * x.cols + kLine - 1) / kLine;
  const int64_t first = lines * rank / size_ * kLine;
  const int64_t last = std::min(lines * (rank + 1) / size_ * kLine, x.rows * x.cols);
  const bool contiguous = std::all_of(posts_.begin(), posts_.end(),
                                      [](const Post& post) { return post.x.contiguous(); });
  const float** parts = &parts_[size_t(rank * size_)];
  for_each_run(
      x.cols, contiguous, first, last - first, [&](int64_t row, int64_t col, int64_t run, int64_t) {
        // Piece by piece, so that the sum is still in the nearest cache when it is copied.
        constexpr int64_t kPiece = 2048;
        for (int64_t begin = 0; begin < run; begin += kPiece) {
          const int64_t n = std::min(kPiece, run - begin);
          const auto at = [&](int r) { return posts_[size_t(r)].x.f32_row(row) + col + begin; };
          for (int r = 0; r < size_; ++r) parts[r] = at(r);
          sum_in_rank_order(parts, size_, n, at(0));
          for (int r = 1; r < size_; ++r) std::copy_n(at(0), n, at(r));
        }
      });
}

void InProcessGroup::gather_share(int rank) {
  const TensorView& all = posts_[size_t(rank)].x;
  for (int r = 0; r < size_; ++r) {
    const ConstTensorView& mine = posts_[size_t(r)].mine;
    copy_tensor(mine, all.row_range(r * mine.rows, mine.rows));
  }
}

void InProcessGroup::make_children() {
  std::vector<int> order(static_cast<size_t>(size_));
  for (int r = 0; r < size_; ++r) order[size_t(r)] = r;
  std::stable_sort(order.begin(), order.end(), [this](int a, int b) {
    const Post &pa = posts_[size_t(a)], &pb = posts_[size_t(b)];
    return std::pair(pa.color, pa.key) < std::pair(pb.color, pb.key);
  });
  for (auto first = order.begin(); first != order.end();) {
    const int color = posts_[size_t(*first)].color;
    const auto last =
        std::find_if(first, order.end(), [&](int r) { return posts_[size_t(r)].color != color; });
    const auto child = std::make_shared<InProcessGroup>(int(last - first));
    for (auto r = first; r != last; ++r) {
      posts_[size_t(*r)].child = child;
      posts_[size_t(*r)].child_rank = int(r - first);
    }
    first = last;
  }
}

Status InProcessGroup::send(int rank, const ConstTensorView& x, int to) {
  const Mailbox::Answer answer = mailbox(rank, to).put(x, kUnderWayBytesMax);
  return answer == Mailbox::Answer::kDone ? Status() : gone(to, "send");
}

Status InProcessGroup::receive(int rank, const TensorView& x, int from) {
  switch (mailbox(from, rank).take(x)) {
    case Mailbox::Answer::kDone:
      return {};
    case Mailbox::Answer::kPeerGone:
      return gone(from, "receive");
    case Mailbox::Answer::kWrongSize:
      break;
  }
  return data_loss(
      fmt::format("rank {} of {}: the message from rank {} is not the [{}, {}] {} "
                  "that receive asks for: the two ranks disagree on what is sent",
                  rank, size_, from, x.rows, x.cols, dtype_name(x.dtype)));
}

void InProcessGroup::leave(int rank) {
  int nobody = -1;
  gone_rank_.compare_exchange_strong(nobody, rank);
  rendezvous_.close();
  for (int r = 0; r < size_; ++r) {
    mailbox(rank, r).close_sender();
    mailbox(r, rank).close_receiver();
  }
}

Status InProcessGroup::gone(int rank, std::string_view what) const {
  return unavailable(fmt::format("rank {} of {} is gone (threads of one process): {} cannot end",
                                 rank, size_, what));
}

}  // namespace trireme
