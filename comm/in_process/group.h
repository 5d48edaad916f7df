// What the ranks of an in-process world share: a rendezvous, a mailbox for each ordered pair, and
// what each rank brings to the collective that is under way. Used by in_process.cc only.
//
// A collective works on the callers' own tensors, without a copy: every rank posts its view and
// arrives; when all have arrived, all memory is there to be read and written until the last share
// of the work is done. A small collective is done by the last rank to arrive, for all (one
// meeting); in a large one every rank does its share (two meetings). The bits are the same.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "comm/communicator.h"
#include "comm/in_process/mailbox.h"
#include "comm/rendezvous.h"

namespace trireme {

class InProcessGroup {
 public:
  enum class Operation : uint8_t { kBarrier, kAllReduceSum, kAllGather, kBroadcast, kSplit };

  // What a rank brings. `mine` is what others read of it, `x` what others or itself write.
  struct Post {
    Operation operation = Operation::kBarrier;
    ConstTensorView mine;
    TensorView x;
    int root = 0;
    int color = 0, key = 0;
    std::shared_ptr<InProcessGroup> child;  // the answer to kSplit, and the rank in it
    int child_rank = 0;
  };

  explicit InProcessGroup(int size);
  int size() const { return size_; }

  // Returns when the whole collective is done. `post` comes back with the answer to kSplit.
  Status collective(int rank, Post& post);
  Status send(int rank, const ConstTensorView& x, int to);
  Status receive(int rank, const TensorView& x, int from);

  // This rank will not call again: whoever waits for it now or later gets kUnavailable.
  void leave(int rank);

 private:
  bool all_post_the_same() const;
  void do_share(int rank);
  void sum_share(int rank);
  void gather_share(int rank);
  void make_children();
  Mailbox& mailbox(int from, int to) { return mailboxes_[size_t(from * size_ + to)]; }
  Status gone(int rank, std::string_view what) const;

  const int size_;
  Rendezvous rendezvous_;
  std::atomic<int> gone_rank_{-1};
  std::vector<Post> posts_;          // [size]; read by others between two meetings only
  std::vector<Mailbox> mailboxes_;   // [from * size + to]
  std::vector<const float*> parts_;  // [rank * size + part]; room for sum_share
};

}  // namespace trireme
