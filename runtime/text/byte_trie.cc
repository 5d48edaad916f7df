#include "runtime/text/byte_trie.h"

#include <algorithm>

namespace trireme {

int64_t ByteTrie::build(std::span<const std::pair<std::string_view, int32_t>> entries) {
  nodes_.clear();
  edges_.clear();
  from_root_ = {};
  if (entries.empty()) return -1;
  std::vector<uint32_t> order(entries.size());
  for (uint32_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return entries[a].first != entries[b].first ? entries[a].first < entries[b].first : a < b;
  });
  if (entries[order[0]].first.empty()) return order[0];
  for (size_t i = 1; i < order.size(); ++i) {
    if (entries[order[i]].first == entries[order[i - 1]].first) return order[i];
  }

  // Breadth first, so that the edges of a node are adjacent. A job is a node and the range of
  // `order` whose strings pass through it.
  struct Job {
    uint32_t begin, end, depth;
  };
  std::vector<Job> jobs = {{0, static_cast<uint32_t>(order.size()), 0}};
  nodes_.emplace_back();
  for (size_t n = 0; n < jobs.size(); ++n) {  // job n is node n
    Job job = jobs[n];
    if (entries[order[job.begin]].first.size() == job.depth) {
      nodes_[n].value = entries[order[job.begin]].second;
      ++job.begin;
    }
    nodes_[n].first_edge = static_cast<uint32_t>(edges_.size());
    for (uint32_t i = job.begin; i < job.end;) {
      const uint8_t byte = static_cast<uint8_t>(entries[order[i]].first[job.depth]);
      uint32_t end = i;
      while (end < job.end && static_cast<uint8_t>(entries[order[end]].first[job.depth]) == byte) {
        ++end;
      }
      edges_.push_back({byte, static_cast<uint32_t>(nodes_.size())});
      nodes_.emplace_back();
      jobs.push_back({i, end, job.depth + 1});
      i = end;
    }
    nodes_[n].edges = static_cast<uint32_t>(edges_.size()) - nodes_[n].first_edge;
  }
  for (uint32_t e = 0; e < nodes_[0].edges; ++e) from_root_[edges_[e].byte] = edges_[e].node;
  return -1;
}

ByteTrie::Found ByteTrie::longest_prefix(std::string_view text) const {
  Found best;
  if (nodes_.empty() || text.empty()) return best;
  uint32_t node = from_root_[static_cast<uint8_t>(text[0])];
  for (size_t depth = 1; node != 0; ++depth) {
    if (nodes_[node].value >= 0) best = {nodes_[node].value, depth};
    if (depth == text.size()) break;
    const uint8_t byte = static_cast<uint8_t>(text[depth]);
    const auto first = edges_.begin() + nodes_[node].first_edge;
    const auto last = first + nodes_[node].edges;
    const auto edge =
        std::lower_bound(first, last, byte, [](const Edge& e, uint8_t b) { return e.byte < b; });
    node = edge != last && edge->byte == byte ? edge->node : 0;
  }
  return best;
}

}  // namespace trireme
