// A set of byte strings with a value each, asked for the longest one that a text begins with. Built
// once, then immutable; any thread. Not only for text: the strings may hold any bytes.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace trireme {

class ByteTrie {
 public:
  struct Found {
    int32_t value = -1;  // -1: no string of the set
    size_t bytes = 0;
  };
  // How a build went: the index of an entry that is empty or that repeats an earlier one, or -1.
  // REQUIRES: values are >= 0.
  int64_t build(std::span<const std::pair<std::string_view, int32_t>> entries);

  bool empty() const { return nodes_.empty(); }
  // The longest string of the set that `text` begins with. Time: at most the longest string.
  Found longest_prefix(std::string_view text) const;

 private:
  struct Node {
    int32_t value = -1;
    uint32_t first_edge = 0;
    uint32_t edges = 0;
  };
  struct Edge {
    uint8_t byte = 0;
    uint32_t node = 0;
  };
  std::vector<Node> nodes_;  // nodes_[0] is the root
  std::vector<Edge> edges_;  // of one node: adjacent, in order of byte
  std::array<uint32_t, 256> from_root_ = {};
};

}  // namespace trireme
