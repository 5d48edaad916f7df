#include "tests/contract/comm/communicator_contract.h"

#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <list>
#include <numeric>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "kernels/base/random.h"

#define TRY(expression) \
  if (Status try_status = (expression); !try_status.ok()) return try_status

namespace trireme {
namespace {

Status broken(std::string what) { return data_loss(std::move(what)); }

// A tensor with room between its rows: [rows, cols] inside [rows, cols + gap], the gap filled with
// bytes that nobody may touch. The test writes and reads it on the host; a call is given what
// place() returns, and fetch() brings back what the call made of it.
class Rows {
 public:
  Rows(ContractSite& site, int64_t rows, int64_t cols, DType dtype = DType::kF32, int64_t gap = 0)
      : site_(site), rows_(rows), cols_(cols), gap_(gap), dtype_(dtype) {
    bytes_.assign(size_t(rows * (cols + gap)) * dtype_bytes(dtype), std::byte{0x5a});
  }
  Rows(const Rows&) = delete;
  Rows& operator=(const Rows&) = delete;
  ~Rows() {
    if (site_.device == nullptr) return;
    (void)site_.device->synchronize();
    if (memory_.data() != nullptr) site_.spare.push_back(std::move(memory_));
  }

  // The tensor where the site wants it, as the host has it now. On a device the copy is queued, and
  // nothing waits for it here.
  TensorView place() {
    if (site_.device == nullptr)
      return {bytes_.data(), rows_, cols_, cols_ + gap_, dtype_, Place::kHost};
    if (memory_.data() == nullptr) memory_ = device_memory();
    if (!bytes_.empty()) {
      on_the_way_.push_back(bytes_);
      site_.device->copy(memory_.data(), on_the_way_.back().data(), bytes_.size());
    }
    return {memory_.data(), rows_, cols_, cols_ + gap_, dtype_, site_.device->place()};
  }
  Status fetch() {
    if (site_.device == nullptr) return {};
    if (!bytes_.empty()) site_.device->copy(bytes_.data(), memory_.data(), bytes_.size());
    Status status = site_.device->synchronize();
    on_the_way_.clear();
    return status;
  }

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  std::byte* row(int64_t r) {
    return bytes_.data() + size_t(r * (cols_ + gap_)) * dtype_bytes(dtype_);
  }
  float* f32(int64_t r) { return reinterpret_cast<float*>(row(r)); }
  size_t row_bytes() const { return size_t(cols_) * dtype_bytes(dtype_); }
  bool gap_untouched() {
    for (int64_t r = 0; r < rows_; ++r) {
      const std::byte* gap = row(r) + row_bytes();
      for (size_t i = 0; i < size_t(gap_) * dtype_bytes(dtype_); ++i)
        if (gap[i] != std::byte{0x5a}) return false;
    }
    return true;
  }
  // Bytes that tell who wrote them: a function of (tag, row, byte).
  void fill(uint64_t tag) {
    for (int64_t r = 0; r < rows_; ++r)
      for (size_t i = 0; i < row_bytes(); ++i) row(r)[i] = byte_of(tag, r, i);
  }
  bool filled(uint64_t tag, int64_t first = 0, int64_t count = -1) {
    for (int64_t r = 0; r < (count < 0 ? rows_ : count); ++r)
      for (size_t i = 0; i < row_bytes(); ++i)
        if (row(first + r)[i] != byte_of(tag, r, i)) return false;
    return true;
  }

 private:
  Buffer device_memory() {
    for (auto spare = site_.spare.begin(); spare != site_.spare.end(); ++spare) {
      if (spare->bytes() < bytes_.size() || spare->bytes() > 4 * bytes_.size() + 4096) continue;
      Buffer found = std::move(*spare);
      site_.spare.erase(spare);
      return found;
    }
    return site_.device->allocate(bytes_.size() + 1).take();
  }
  static std::byte byte_of(uint64_t tag, int64_t row, size_t i) {
    uint64_t h = (tag * 1'000'003 + uint64_t(row)) * 1'000'003 + i;
    h = (h ^ (h >> 29)) * 0xbf58476d1ce4e5b9ull;
    return std::byte(uint8_t(h >> 56));
  }
  ContractSite& site_;
  int64_t rows_, cols_, gap_;
  DType dtype_;
  std::vector<std::byte> bytes_;
  Buffer memory_;                                 // of the device
  std::list<std::vector<std::byte>> on_the_way_;  // what queued copies will read
};

// Rank's part of element i of sum `tag`: magnitudes differ by up to 2^12, so that the order of
// adding shows in the bits.
float part(uint64_t tag, int rank, int64_t i) {
  uint64_t h = (uint64_t(i) * 64 + uint64_t(rank)) * 0x9e3779b97f4a7c15ull + tag;
  h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9ull;
  h = (h ^ (h >> 27)) * 0x94d049bb133111ebull;
  const float unit = float(int32_t(h >> 32)) * 0x1p-31f;
  return std::ldexp(unit, int(h % 13));
}

float sum_of_parts(uint64_t tag, int ranks, int64_t i) {
  float sum = part(tag, 0, i);
  for (int r = 1; r < ranks; ++r) sum += part(tag, r, i);
  return sum;
}

void fill_parts(Rows& x, uint64_t tag, int rank) {
  for (int64_t r = 0; r < x.rows(); ++r)
    for (int64_t c = 0; c < x.cols(); ++c) x.f32(r)[c] = part(tag, rank, r * x.cols() + c);
}

// Whether `got` is a sum of the parts in some order: off by less than each addition's rounding.
bool is_some_sum(float got, uint64_t tag, int ranks, int64_t i) {
  double sum = 0, magnitude = 0;
  for (int r = 0; r < ranks; ++r) {
    sum += double(part(tag, r, i));
    magnitude += std::abs(double(part(tag, r, i)));
  }
  return std::abs(double(got) - sum) <= double(ranks) * 0x1p-24 * magnitude;
}

Status check_sums(Rows& x, uint64_t tag, int ranks, bool in_rank_order) {
  for (int64_t r = 0; r < x.rows(); ++r) {
    for (int64_t c = 0; c < x.cols(); ++c) {
      const int64_t i = r * x.cols() + c;
      const float want = sum_of_parts(tag, ranks, i), got = x.f32(r)[c];
      if (in_rank_order ? std::bit_cast<uint32_t>(want) != std::bit_cast<uint32_t>(got)
                        : !is_some_sum(got, tag, ranks, i)) {
        return broken(fmt::format("sum of [{}, {}] at ({}, {}) is {:a}, in rank order it is {:a}",
                                  x.rows(), x.cols(), r, c, got, want));
      }
    }
  }
  return {};
}

// All ranks have the same bits in x.
Status check_same_on_all(Communicator& world, Rows& x) {
  uint64_t digest = 0;
  for (int64_t r = 0; r < x.rows(); ++r)
    for (size_t i = 0; i < x.row_bytes(); ++i) digest = digest * 1'000'003 + uint64_t(x.row(r)[i]);
  std::vector<uint64_t> all(size_t(world.size()));
  TRY(world.all_gather(ConstTensorView(&digest, 1, 1, DType::kI64),
                       tensor(all.data(), world.size(), 1, DType::kI64)));
  for (uint64_t other : all)
    if (other != digest) return broken("all_reduce_sum left other bits on another rank");
  return {};
}

// A sum over `world`, which is the site's world or a group of it.
Status sum_once(ContractSite& site, Communicator& world, int64_t rows, int64_t cols, int64_t gap,
                uint64_t tag) {
  Rows x(site, rows, cols, DType::kF32, gap);
  fill_parts(x, tag, world.rank());
  TRY(world.all_reduce_sum(x.place()));
  TRY(x.fetch());
  // Two parts have one order.
  const bool in_rank_order = site.sums_in_rank_order || world.size() <= 2;
  TRY(check_sums(x, tag, world.size(), in_rank_order));
  if (!in_rank_order) TRY(check_same_on_all(world, x));
  if (!x.gap_untouched()) return broken("all_reduce_sum wrote between the rows of a strided view");
  return {};
}

Status sums_are_in_rank_order(ContractSite& site) {
  Communicator& world = site.world;
  const int64_t counts[] = {0,    1,    2,    3,    15,    16,    17,     31,      100,
                            1000, 1024, 2048, 4097, 16384, 65537, 262147, 1 << 20, 1000003};
  uint64_t tag = 1;
  for (int64_t count : counts) TRY(sum_once(site, world, 1, count, 0, tag++));
  for (int64_t rows : {2, 7, 33, 512}) TRY(sum_once(site, world, rows, 129, 0, tag++));
  // The data can tell orders apart, or the above shows nothing.
  if (world.size() >= 3) {
    bool order_matters = false;
    for (int64_t i = 0; i < 1000 && !order_matters; ++i) {
      float reversed = part(1, world.size() - 1, i);
      for (int r = world.size() - 2; r >= 0; --r) reversed += part(1, r, i);
      order_matters = reversed != sum_of_parts(1, world.size(), i);
    }
    if (!order_matters) return broken("the test's data hides the order of the sum");
  }
  return {};
}

Status sums_of_strided_views(ContractSite& site) {
  Communicator& world = site.world;
  uint64_t tag = 100;
  for (int64_t rows : {1, 2, 5, 64, 700})
    for (int64_t cols : {1, 3, 16, 130, 1027})
      TRY(sum_once(site, world, rows, cols, 1 + cols % 5 + world.rank(),
                   tag++));  // own stride per rank
  TRY(sum_once(site, world, 300, 1024, world.rank() == 0 ? 0 : 64, tag));
  return {};
}

// The Row law: a row's sum has the same bits alone and among 511 others.
Status a_row_alone_and_among_512(ContractSite& site) {
  Communicator& world = site.world;
  if (!site.sums_in_rank_order && world.size() > 2) return {};
  constexpr int64_t kRows = 512, kCols = 776;
  Rows all(site, kRows, kCols), before(site, kRows, kCols);
  fill_parts(all, 7, world.rank());
  fill_parts(before, 7, world.rank());
  TRY(world.all_reduce_sum(all.place()));
  TRY(all.fetch());
  for (int64_t r : {0, 1, 100, 255, 256, 511}) {
    Rows alone(site, 1, kCols);
    std::memcpy(alone.row(0), before.row(r), alone.row_bytes());
    TRY(world.all_reduce_sum(alone.place()));
    TRY(alone.fetch());
    if (std::memcmp(alone.row(0), all.row(r), alone.row_bytes()) != 0)
      return broken(fmt::format("row {} has other bits alone than among 512", r));
  }
  return {};
}

Status sums_of_special_values(ContractSite& site) {
  Communicator& world = site.world;
  const float inf = std::numeric_limits<float>::infinity();
  const float tiny = std::numeric_limits<float>::denorm_min();
  const bool first = world.rank() == 0;
  const float parts[] = {-0.0f, inf, first ? inf : -inf, first ? tiny : 0.0f, first ? 0.0f : -0.0f};
  Rows row(site, 1, 5);
  std::memcpy(row.row(0), parts, sizeof parts);
  TRY(world.all_reduce_sum(row.place()));
  TRY(row.fetch());
  const float* x = row.f32(0);
  if (x[0] != 0 || !std::signbit(x[0])) return broken("-0 + -0 is not -0");
  if (x[1] != inf) return broken("inf + inf is not inf");
  if (world.size() > 1 && !std::isnan(x[2])) return broken("inf - inf is not NaN");
  if (x[3] != tiny) return broken("a subnormal sum was flushed to zero");
  if (x[4] != 0 || std::signbit(x[4])) return broken("0 + -0 is not 0");
  return {};
}

Status gathers_in_rank_order(ContractSite& site) {
  Communicator& world = site.world;
  const struct {
    int64_t rows, cols, mine_gap, all_gap;
    DType dtype;
  } cases[] = {
      {1, 1, 0, 0, DType::kI32},     {3, 17, 0, 0, DType::kBF16},   {0, 8, 0, 0, DType::kF32},
      {2, 5, 3, 0, DType::kI8},      {4, 9, 0, 7, DType::kF32},     {16, 33, 2, 5, DType::kI64},
      {1, 40000, 0, 0, DType::kF32}, {700, 513, 1, 3, DType::kF16}, {1, 700001, 0, 0, DType::kF32}};
  uint64_t tag = 1000;
  for (const auto& c : cases) {
    Rows mine(site, c.rows, c.cols, c.dtype, c.mine_gap);
    Rows all(site, c.rows * world.size(), c.cols, c.dtype, c.all_gap);
    mine.fill(tag + uint64_t(world.rank()));
    TRY(world.all_gather(mine.place(), all.place()));
    TRY(mine.fetch());
    TRY(all.fetch());
    for (int r = 0; r < world.size(); ++r) {
      if (!all.filled(tag + uint64_t(r), r * c.rows, c.rows))
        return broken(fmt::format("all_gather of [{}, {}]: not the rows of rank {} at their place",
                                  c.rows, c.cols, r));
    }
    if (!all.gap_untouched() || !mine.gap_untouched())
      return broken("all_gather wrote between the rows of a strided view");
    tag += 100;
  }
  // A rank's rows may already lie at their place in the result.
  Rows all(site, 2 * world.size(), 300);
  Rows mine(site, 2, 300);
  mine.fill(tag + uint64_t(world.rank()));
  std::memcpy(all.row(2 * world.rank()), mine.row(0), 2 * mine.row_bytes());
  const TensorView whole = all.place();
  TRY(world.all_gather(whole.row_range(2 * world.rank(), 2), whole));
  TRY(all.fetch());
  for (int r = 0; r < world.size(); ++r)
    if (!all.filled(tag + uint64_t(r), 2 * r, 2)) return broken("all_gather in place");
  return {};
}

Status broadcasts_from_each_root(ContractSite& site) {
  Communicator& world = site.world;
  const struct {
    int64_t rows, cols, gap;
    DType dtype;
  } cases[] = {{1, 1, 0, DType::kI32},  {1, 0, 0, DType::kF32},     {5, 33, 0, DType::kBF16},
               {9, 100, 3, DType::kI8}, {64, 4096, 0, DType::kF32}, {511, 1025, 2, DType::kF32}};
  uint64_t tag = 2000;
  for (const auto& c : cases) {
    for (int root = 0; root < world.size(); ++root) {
      Rows x(site, c.rows, c.cols, c.dtype, world.rank() % 2 == 0 ? c.gap : 2 * c.gap);
      x.fill(world.rank() == root ? tag : tag + 1);
      TRY(world.broadcast(x.place(), root));
      TRY(x.fetch());
      if (!x.filled(tag))
        return broken(fmt::format("broadcast of [{}, {}] from {}", c.rows, c.cols, root));
      if (!x.gap_untouched()) return broken("broadcast wrote between the rows of a strided view");
      tag += 2;
    }
  }
  return {};
}

// Every rank sends to every other before anybody receives; sizes go up and down; order is kept.
Status messages_cross_and_keep_their_order(ContractSite& site) {
  Communicator& world = site.world;
  const int64_t sizes[] = {1, 5000, 3, 0, 100000, 2, 40, 300000, 1, 7};
  const auto tag = [&](int from, int to, size_t i) {
    return uint64_t(from) * 10000 + uint64_t(to) * 100 + i;
  };
  for (int round = 0; round < 3; ++round) {
    for (size_t i = 0; i < std::size(sizes); ++i) {
      for (int to = 0; to < world.size(); ++to) {
        if (to == world.rank()) continue;
        Rows x(site, 2, sizes[i], DType::kI8, round);
        x.fill(tag(world.rank(), to, i));
        TRY(world.send(x.place(), to));
        x.fill(999'999);  // the sender may write its tensor again at once
        (void)x.place();
      }
    }
    for (int from = world.size() - 1; from >= 0; --from) {
      if (from == world.rank()) continue;
      for (size_t i = 0; i < std::size(sizes); ++i) {
        Rows x(site, 2, sizes[i], DType::kI8, 2 - round);
        TRY(world.receive(x.place(), from));
        TRY(x.fetch());
        if (!x.filled(tag(from, world.rank(), i)))
          return broken(fmt::format("message {} from rank {} to rank {}", i, from, world.rank()));
        if (!x.gap_untouched()) return broken("receive wrote between the rows of a strided view");
      }
    }
  }
  return {};
}

// A send does not wait for the receiver while less than 64 MiB are under way: all ranks send 60 MiB
// around the ring before anybody receives, and collectives in between get through.
Status sends_of_60_mib_do_not_wait(ContractSite& site) {
  Communicator& world = site.world;
  if (world.size() == 1) return {};
  const int next = (world.rank() + 1) % world.size();
  const int previous = (world.rank() + world.size() - 1) % world.size();
  constexpr int kSmall = 20;
  Rows small(site, 1, 1 << 20, DType::kI8), large(site, 1, 40 << 20, DType::kI8);
  for (int i = 0; i < kSmall; ++i) {
    std::memset(small.row(0), world.rank() * kSmall + i, small.row_bytes());
    TRY(world.send(small.place(), next));
  }
  std::memset(large.row(0), 100 + world.rank(), large.row_bytes());
  TRY(world.send(large.place(), next));
  std::memset(large.row(0), 0, large.row_bytes());
  (void)large.place();
  TRY(sum_once(site, world, 4, 1000, 0, 3000));
  TRY(world.barrier());
  const auto all_are = [](Rows& x, int value) {
    return x.row(0)[0] == std::byte(value) &&
           std::memcmp(x.row(0), x.row(0) + 1, x.row_bytes() - 1) == 0;
  };
  for (int i = 0; i < kSmall; ++i) {
    TRY(world.receive(small.place(), previous));
    TRY(small.fetch());
    if (!all_are(small, previous * kSmall + i))
      return broken(fmt::format("message {} of 1 MiB around the ring", i));
  }
  TRY(world.receive(large.place(), previous));
  TRY(large.fetch());
  if (!all_are(large, 100 + previous)) return broken("the message of 40 MiB around the ring");
  return {};
}

// Collectives that a device has recorded, launched again and again with other data in the same
// memory: what a decode step of a sharded model is. Where they may not be recorded there is nothing
// to show.
Status recorded_collectives_run_again(ContractSite& site) {
  if (site.device == nullptr || site.world.size() == 1) return {};
  auto made = site.world.split(0, -site.world.rank());
  if (!made.ok()) return made.status();
  Communicator& group = **made;
  if (!group.capturable() || !site.device->can_record()) return {};
  Rows sum(site, 3, 700), strided(site, 5, 33, DType::kF32, 4), large(site, 1, 300'000);
  Rows mine(site, 2, 90, DType::kBF16), all(site, 2 * group.size(), 90, DType::kBF16, 6);
  Rows told(site, 4, 50, DType::kI32);
  const auto fill_all = [&](uint64_t tag) {
    fill_parts(sum, tag, group.rank());
    fill_parts(strided, tag + 1, group.rank());
    fill_parts(large, tag + 2, group.rank());
    mine.fill(tag + uint64_t(group.rank()));
    told.fill(group.rank() == 1 ? tag : 0);
    for (Rows* x : {&sum, &strided, &large, &mine, &all, &told}) (void)x->place();
  };
  fill_all(8000);
  const TensorView sums[] = {sum.place(), strided.place(), large.place()};
  const TensorView from = mine.place(), to = all.place(), said = told.place();
  const auto step = [&]() -> Status {
    for (const TensorView& x : sums) TRY(group.all_reduce_sum(x));
    TRY(group.all_gather(from, to));
    return group.broadcast(said, 1);
  };
  TRY(step());
  const auto recording = site.device->record(step);
  if (!recording.ok()) return recording.status();
  for (uint64_t tag = 8100; tag < 8500; tag += 100) {
    fill_all(tag);
    site.device->replay(**recording);
    TRY(group.queued_recording());
    for (Rows* x : {&sum, &strided, &large, &all, &told}) TRY(x->fetch());
    const bool in_rank_order = site.sums_in_rank_order || group.size() == 2;
    TRY(check_sums(sum, tag, group.size(), in_rank_order));
    TRY(check_sums(strided, tag + 1, group.size(), in_rank_order));
    TRY(check_sums(large, tag + 2, group.size(), in_rank_order));
    for (Rows* x : {&sum, &strided, &large}) TRY(check_same_on_all(group, *x));
    for (int r = 0; r < group.size(); ++r)
      if (!all.filled(tag + uint64_t(r), 2 * r, 2)) return broken("a recorded all_gather");
    if (!told.filled(tag)) return broken("a recorded broadcast");
    if (!strided.gap_untouched() || !all.gap_untouched())
      return broken("a recorded collective wrote between the rows of a strided view");
  }
  return group.barrier();
}

// Nobody leaves a barrier before everybody has come: seen on the one clock of a host.
Status barriers_hold_everybody(ContractSite& site) {
  Communicator& world = site.world;
  const auto now = [] {
    return int64_t(std::chrono::steady_clock::now().time_since_epoch().count());
  };
  for (int round = 0; round < 20; ++round) {
    int64_t times[2] = {now(), 0};
    if (round % world.size() == world.rank()) {  // one rank comes late, by some work
      volatile float sink = 0;
      for (int64_t i = 0; i < 50000; ++i) sink = sink + part(uint64_t(round), 0, i);
      times[0] = now();
    }
    TRY(world.barrier());
    times[1] = now();
    std::vector<int64_t> all(2 * size_t(world.size()));
    TRY(world.all_gather(ConstTensorView(times, 1, 2, DType::kI64),
                         tensor(all.data(), world.size(), 2, DType::kI64)));
    for (int r = 0; r < world.size(); ++r)
      if (all[2 * size_t(r)] > times[1])
        return broken(fmt::format("left barrier {} before rank {} had come", round, r));
  }
  return {};
}

// Checks that `group` is the given ranks of `world`, in that order, and works.
Status is_group_of(ContractSite& site, Communicator& group, const std::vector<int32_t>& members,
                   uint64_t tag) {
  if (group.size() != int(members.size()))
    return broken(fmt::format("split: {} ranks, {} expected", group.size(), members.size()));
  const int32_t me = site.world.rank();
  std::vector<int32_t> all(members.size(), -1);
  TRY(group.all_gather(ConstTensorView(&me, 1, 1, DType::kI32),
                       tensor(all.data(), group.size(), 1, DType::kI32)));
  if (all != members) return broken("split: not the ranks expected, or not in their order");
  if (all[size_t(group.rank())] != me) return broken("split: rank() is not the place in the group");
  return sum_once(site, group, 3, 333, 1, tag);
}

Status splits_by_color_and_key(ContractSite& site) {
  Communicator& world = site.world;
  const int size = world.size(), rank = world.rank();
  std::vector<int32_t> same_parity, reversed;
  for (int r = rank % 2; r < size; r += 2) same_parity.push_back(r);
  for (int r = size - 1; r >= 0; --r) reversed.push_back(r);

  auto parity = world.split(rank % 2, 0);  // equal keys: by rank here
  if (!parity.ok()) return parity.status();
  TRY(is_group_of(site, **parity, same_parity, 4000));
  auto backwards = world.split(3, -rank);
  if (!backwards.ok()) return backwards.status();
  TRY(is_group_of(site, **backwards, reversed, 4001));

  // A group of a group, which lives on when the one between is gone.
  auto again = (*backwards)->split((*backwards)->rank() % 2, (*backwards)->rank());
  if (!again.ok()) return again.status();
  std::vector<int32_t> reversed_parity;
  for (int r : reversed)
    if ((size - 1 - r) % 2 == (*backwards)->rank() % 2) reversed_parity.push_back(r);
  TRY((*backwards)->barrier());
  (*backwards).reset();
  TRY(is_group_of(site, **again, reversed_parity, 4002));

  auto alone = world.split(rank, 0);
  if (!alone.ok()) return alone.status();
  TRY(is_group_of(site, **alone, {rank}, 4003));
  return world.barrier();
}

// Random calls over three groups, drawn from a seed that all ranks share: no call of one group is
// taken for one of another.
Status groups_do_not_mix(ContractSite& site) {
  Communicator& world = site.world;
  auto backwards = world.split(0, -world.rank());
  if (!backwards.ok()) return backwards.status();
  auto parity = world.split(world.rank() % 2, 0);
  if (!parity.ok()) return parity.status();
  Communicator* groups[] = {&world, backwards->get(), parity->get()};
  for (uint32_t step = 0; step < 300; ++step) {
    const auto draw = philox4x32({42, 0}, {step, 0, 0, 0});
    Communicator& group = *groups[draw[0] % 3];
    const uint64_t tag = 5000 + step;
    const int64_t cols = draw[3] % 8 == 0 ? 30000 : 1 + draw[3] % 300;
    // The parity groups have different sizes: a root that each of them has.
    const int root = int(draw[2] % uint32_t(group.size()));
    switch (draw[1] % 4) {
      case 0:
        TRY(sum_once(site, group, 2, cols, 0, tag));
        break;
      case 1: {
        Rows x(site, 1, cols);
        x.fill(group.rank() == root ? tag : 0);
        TRY(group.broadcast(x.place(), root));
        TRY(x.fetch());
        if (!x.filled(tag)) return broken(fmt::format("step {}: broadcast", step));
        break;
      }
      case 2: {
        Rows mine(site, 1, cols), all(site, group.size(), cols);
        mine.fill(tag + 1000 * uint64_t(group.rank()));
        TRY(group.all_gather(mine.place(), all.place()));
        TRY(all.fetch());
        for (int r = 0; r < group.size(); ++r)
          if (!all.filled(tag + 1000 * uint64_t(r), r, 1))
            return broken(fmt::format("step {}: all_gather", step));
        break;
      }
      case 3: {
        if (group.size() == 1) break;
        const int next = (group.rank() + 1) % group.size();
        const int previous = (group.rank() + group.size() - 1) % group.size();
        Rows out(site, 1, cols), in(site, 1, cols);
        out.fill(tag + 1000 * uint64_t(group.rank()));
        TRY(group.send(out.place(), next));
        TRY(group.receive(in.place(), previous));
        TRY(in.fetch());
        if (!in.filled(tag + 1000 * uint64_t(previous)))
          return broken(fmt::format("step {}: receive", step));
        break;
      }
    }
  }
  return world.barrier();
}

// A message of another size than receive asks for is an error with a name, in a group of its own.
Status a_message_of_the_wrong_size_is_an_error(ContractSite& site) {
  Communicator& world = site.world;
  for (int64_t sent : {3, 5, 200000}) {
    auto group = world.split(0, world.rank());
    if (!group.ok()) return group.status();
    if (world.size() > 1 && world.rank() == 0) {
      Rows x(site, 1, sent);
      TRY((*group)->send(x.place(), 1));
    }
    if (world.rank() == 1) {
      Rows x(site, 1, 4);
      const Status status = (*group)->receive(x.place(), 0);
      if (status.code() != StatusCode::kDataLoss)
        return broken(fmt::format("{} floats received as 4: '{}'", sent, status.message()));
    }
    TRY(world.barrier());
  }
  return {};
}

constexpr CommunicatorClause kContract[] = {
    {"sums_are_in_rank_order", sums_are_in_rank_order},
    {"sums_of_strided_views", sums_of_strided_views},
    {"a_row_alone_and_among_512", a_row_alone_and_among_512},
    {"sums_of_special_values", sums_of_special_values},
    {"gathers_in_rank_order", gathers_in_rank_order},
    {"broadcasts_from_each_root", broadcasts_from_each_root},
    {"recorded_collectives_run_again", recorded_collectives_run_again},
    {"messages_cross_and_keep_their_order", messages_cross_and_keep_their_order},
    {"sends_of_60_mib_do_not_wait", sends_of_60_mib_do_not_wait},
    {"barriers_hold_everybody", barriers_hold_everybody},
    {"splits_by_color_and_key", splits_by_color_and_key},
    {"groups_do_not_mix", groups_do_not_mix},
    {"a_message_of_the_wrong_size_is_an_error", a_message_of_the_wrong_size_is_an_error},
};

}  // namespace

std::span<const CommunicatorClause> communicator_contract() { return kContract; }

}  // namespace trireme
