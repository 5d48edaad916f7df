#include "comm/in_process/in_process.h"

#include <utility>

#include "comm/in_process/group.h"
#include "comm/tensor_bytes.h"

namespace trireme {
namespace {

using Operation = InProcessGroup::Operation;
using Post = InProcessGroup::Post;

class InProcessRank final : public Communicator {
 public:
  InProcessRank(std::shared_ptr<InProcessGroup> group, int rank)
      : group_(std::move(group)), rank_(rank) {}
  ~InProcessRank() override { group_->leave(rank_); }

  int rank() const override { return rank_; }
  int size() const override { return group_->size(); }

  Status all_reduce_sum(TensorView x) override {
    CHECK(x.dtype == DType::kF32 && x.place == Place::kHost);
    if (size() == 1) return {};
    return collective(Operation::kAllReduceSum, x, x);
  }

  Status all_gather(ConstTensorView mine, TensorView all) override {
    CHECK(all.rows == size() * mine.rows && all.cols == mine.cols && all.dtype == mine.dtype);
    CHECK(mine.place == Place::kHost && all.place == Place::kHost);
    return collective(Operation::kAllGather, mine, all);
  }

  Status broadcast(TensorView x, int root) override {
    CHECK(root >= 0 && root < size() && x.place == Place::kHost);
    return collective(Operation::kBroadcast, x, x, root);
  }

  Status send(ConstTensorView x, int to) override {
    CHECK(to >= 0 && to < size() && to != rank_ && x.place == Place::kHost);
    return group_->send(rank_, x, to);
  }

  Status receive(TensorView x, int from) override {
    CHECK(from >= 0 && from < size() && from != rank_ && x.place == Place::kHost);
    return group_->receive(rank_, x, from);
  }

  Status barrier() override { return collective(Operation::kBarrier, {}, {}); }

  Result<std::unique_ptr<Communicator>> split(int color, int key) override {
    CHECK(color >= 0);
    Post post;
    post.operation = Operation::kSplit;
    post.color = color;
    post.key = key;
    if (Status status = group_->collective(rank_, post); !status.ok()) return status;
    return std::unique_ptr<Communicator>(
        std::make_unique<InProcessRank>(std::move(post.child), post.child_rank));
  }

 private:
  Status collective(Operation operation, const ConstTensorView& mine, const TensorView& x,
                    int root = 0) {
    Post post;
    post.operation = operation;
    post.mine = mine;
    post.x = x;
    post.root = root;
    return group_->collective(rank_, post);
  }

  std::shared_ptr<InProcessGroup> group_;
  int rank_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_in_process_world(int size) {
  CHECK(size >= 1);
  const auto group = std::make_shared<InProcessGroup>(size);
  std::vector<std::unique_ptr<Communicator>> ranks;
  for (int rank = 0; rank < size; ++rank)
    ranks.push_back(std::make_unique<InProcessRank>(group, rank));
  return ranks;
}

}  // namespace trireme
