// What the planner may look at, made from the tables of the leader: sequences in the order in which
// they are served, with what they hold, share and may come to hold.
#pragma once

#include <map>
#include <set>
#include <vector>

#include "runtime/engine/request_book.h"
#include "runtime/engine/sequence_table.h"
#include "runtime/schedule/planner.h"

namespace trireme {

struct ViewOptions {
  uint32_t tokens_max = 0;
  uint32_t chunk_max = 0;      // of one sequence in one step
  uint32_t newcomers_max = 8;  // that are looked at in a step
  uint32_t aging_ms = 10000;
  bool count_shared = false;  // what residents share, for a planner that may preempt
};

// A view and what its spans point into.
struct OwnedView {
  std::vector<SeqView> sequences;
  std::vector<uint32_t> counts;  // of all sequences: shared, then peak
  std::vector<uint32_t> blocks_total, blocks_available;
  PlannerView view;
};

class ViewBuilder {
 public:
  ViewBuilder(const CacheLayout& layout, const ViewOptions& options)
      : layout_(layout), options_(options) {}

  // A sequence waits or runs from now on. Served first is the least of arrived_ms + priority *
  // aging_ms, of equals the first that came: so that whoever waits aging_ms longer goes before
  // requests of the next better priority, and nobody waits for ever.
  void add(SeqId seq, int32_t priority, uint64_t arrived_ms);
  void remove(SeqId seq);
  // A step under way names it.
  void set_busy(SeqId seq, bool busy);
  // Whether it has taken part in no step yet.
  bool waits(SeqId seq) const { return waiting_.contains(seq); }
  void set_scheduled(SeqId seq) { waiting_.erase(seq); }
  bool any_runnable() const { return keys_.size() > busy_.size(); }
  size_t size() const { return keys_.size(); }
  size_t busy() const { return busy_.size(); }

  // `guess`: sequences of the step under way, taken as though it had ended and those that sample
  // had one more token.
  OwnedView build(const SequenceTable& table, const BlockCache& cache, const RequestBook& book,
                  const std::set<SeqId>* guess = nullptr) const;

  // The most blocks of a class that the sequences of a request hold if it runs to its end.
  std::vector<uint32_t> peak(const Request& request, bool forked) const;

 private:
  struct Key {
    int64_t deadline_ms = 0;
    SeqId seq = 0;
    auto operator<=>(const Key&) const = default;
  };
  SeqView view_of(SeqId id, const SequenceTable& table, const BlockCache& cache, bool busy,
                  std::vector<uint32_t>& shared) const;

  const CacheLayout& layout_;
  const ViewOptions options_;
  std::set<Key> order_;
  std::map<SeqId, Key> keys_;
  std::set<SeqId> busy_, waiting_;
};

}  // namespace trireme
