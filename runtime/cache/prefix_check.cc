// PrefixIndex::check: everything that its header promises, recounted.
#include <algorithm>

#include "runtime/cache/prefix_index.h"

namespace trireme {

void PrefixIndex::check(std::vector<std::vector<uint32_t>>& references) const {
  std::vector<uint32_t> children(nodes_.size(), 0), full_children(nodes_.size(), 0);
  std::vector<size_t> listed(order_.size(), 0);
  size_t used = 0, childless = 0;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const Node& node = nodes_[i];
    if (!node.used) continue;
    ++used;
    CHECK(find(node.key) == static_cast<NodeId>(i));
    CHECK((node.parent == kNoNode) == (node.position == 0));
    CHECK(std::is_sorted(node.tail_lengths.begin(), node.tail_lengths.end()));
    const bool has_rows = full_class_ >= 0 && !node.holdings[full_class_].ids.empty();
    if (node.parent != kNoNode) {
      const Node& above = nodes_[node.parent];
      CHECK(above.used && above.position % options_.granule == 0);
      CHECK(above.position < node.position && node.position - above.position <= options_.granule);
      CHECK(node.time <= now_);
      ++children[node.parent];
      full_children[node.parent] += has_rows;
      const bool above_has_rows =
          above.position == 0 || (full_class_ >= 0 && !above.holdings[full_class_].ids.empty());
      CHECK(!has_rows || above_has_rows) << "rows without those before them";
    }
    CHECK(full_class_ < 0 || has_rows || holds_nothing(node)) << "states without rows";
    CHECK(fixed_class_ >= 0 || full_class_ < 0 || has_rows || node.children > 0 ||
          node.position == 0)
        << "a node holds nothing";
    for (size_t c = 0; c < order_.size(); ++c) {
      const Holding& held = node.holdings[c];
      for (const BlockId block : held.ids) ++references[c].at(block);
      CHECK(!held.listed || order_[c].contains(held.rank));
      CHECK(held.listed == (!held.ids.empty() && !(is_full(c) && node.full_children > 0)));
      listed[c] += held.listed;
      if (held.ids.empty() || is_fixed(c)) continue;
      const SlotClass& shape = layout_.classes[c];
      CHECK(held.first_block + held.ids.size() == blocks_before(shape, node.position));
    }
    childless += node.children == 0;
    CHECK((node.children == 0) == childless_.contains(node.rank));
  }
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (!nodes_[i].used) continue;
    CHECK(nodes_[i].children == children[i] && nodes_[i].full_children == full_children[i]);
  }
  CHECK(used == by_key_.size() && used <= options_.nodes_max);
  CHECK(used + unused_.size() == nodes_.size() && childless == childless_.size());
  for (size_t c = 0; c < order_.size(); ++c) CHECK(listed[c] == order_[c].size());
}

}  // namespace trireme
