// A fuzz target without a fuzzer: over its seeds (files of the folders that are named), over some
// short inputs, and over all of them with changes that a number decides. So the promise of each
// target is looked at wherever tests run, under sanitizers too; scripts/sanitize searches on.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "kernels/base/random.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr uint32_t kChangesEach = 5000;

void run(const std::string& input) {
  // On the heap and no longer than it is, so that a sanitizer sees a read beyond it.
  const std::vector<uint8_t> bytes(input.begin(), input.end());
  (void)LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

// Some bytes are other bytes, a piece is missing, or comes twice.
std::string changed(std::string input, uint32_t seed, uint32_t number) {
  uint32_t drawn = 0;
  const auto below = [&](size_t n) {
    return static_cast<size_t>(trireme::uniform(seed, number, drawn++) * static_cast<double>(n));
  };
  for (size_t times = 1 + below(3); times > 0 && !input.empty(); --times) {
    const size_t at = below(input.size()),
                 count = 1 + below(std::min<size_t>(input.size() - at, 16));
    switch (below(4)) {
      case 0:
        input[at] = static_cast<char>(below(256));
        break;
      case 1:
        input.erase(at, count);
        break;
      case 2:
        input.insert(at, input.substr(at, count));
        break;
      default:
        input.resize(at);
    }
  }
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> inputs = {"",        "0", "{}", "[1, \"a\"]", std::string(70, '\0'),
                                     "\xff\xfe"};
  for (int i = 1; i < argc; ++i) {
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
      std::ifstream file(entry.path(), std::ios::binary);
      inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
  }
  std::sort(inputs.begin(), inputs.end());  // not in the order of a folder
  for (uint32_t i = 0; i < inputs.size(); ++i) {
    run(inputs[i]);
    for (uint32_t change = 0; change < kChangesEach; ++change) run(changed(inputs[i], i, change));
  }
  std::printf("%zu inputs, each with %u changes\n", inputs.size(), kChangesEach);
  return 0;
}
