// engine.device as a user meets it: the real binary with a CUDA library beside it that is not what
// it should be, and with one whose GPUs are the CPU.
#include <gtest/gtest.h>

#include "launcher/exit_code.h"
#include "tests/e2e/installed.h"

namespace trireme::test {
namespace {

const std::string kModel = TRIREME_SOURCE_DIR "/configs/models/gqa";

Installed with_plugin(const std::string& kind) {
  return Installed(TRIREME_BINARY_DIR "/tests/fake_plugins/" + kind);
}

Ended generate(const Installed& installed, const std::vector<std::string>& more) {
  std::vector<std::string> args = {"generate",     "-m", kModel,          "-p", "The old man",
                                   "--max-tokens", "4",  "--temperature", "0"};
  args.insert(args.end(), more.begin(), more.end());
  return installed.run(args);
}

void expect_one_message(const Ended& ended, int code, const std::string& part) {
  EXPECT_EQ(ended.code, code) << ended.error;
  EXPECT_EQ(ended.out, "");
  ASSERT_EQ(ended.messages().size(), 1u) << ended.error;
  EXPECT_NE(ended.messages()[0].find(part), std::string::npos) << ended.messages()[0];
}

TEST(EngineDevice, AutoTakesTheGpusAndSaysSo) {
  const Installed installed = with_plugin("good");
  const Ended cpu = generate(installed, {"--device", "cpu"});
  ASSERT_EQ(cpu.code, kExitOk) << cpu.error;
  for (const char* device : {"auto", "cuda"}) {
    const Ended ended = generate(installed, {"--device", device, "--stats"});
    ASSERT_EQ(ended.code, kExitOk) << ended.error;
    EXPECT_EQ(ended.out, cpu.out);
    EXPECT_NE(ended.error.find(", cuda/0\n"), std::string::npos) << ended.error;
  }
  EXPECT_NE(installed.run({"--version"}).out.find("\ncuda CUDA 0.0 (fake)\n"), std::string::npos);
  EXPECT_NE(installed.run({"doctor"}).out.find("\nauto      cuda: GPU 0 of 2\n"),
            std::string::npos);
}

TEST(EngineDevice, TheCacheIsWhatTheGpuLeaves) {
  const Installed installed = with_plugin("good");
  // The fake GPU has 2 GiB, of which 512 MiB are in use.
  expect_one_message(generate(installed, {"--gpu-memory-utilization", "0.2"}), kExitDoesNotFit,
                     "gpu_memory_utilization 0.2 allows 409.6 MiB");
  expect_one_message(generate(installed, {"--set", "engine.kv_cache_memory_bytes=1KiB"}),
                     kExitDoesNotFit, "the cache has 1024");
}

TEST(EngineDevice, ALibraryThatCannotBeUsedIsToldOnce) {
  const Installed installed = with_plugin("no-driver");
  const Ended automatic =
      generate(installed, {"--stats", "--tensor-parallel-size", "2", "--threads", "1"});
  ASSERT_EQ(automatic.code, kExitOk) << automatic.error;
  EXPECT_NE(automatic.error.find("(there is no NVIDIA driver (fake))"), std::string::npos)
      << automatic.error;
  expect_one_message(generate(installed, {"--device", "cuda", "--tensor-parallel-size", "2"}),
                     kExitUsage, "engine.device is cuda, but there is no NVIDIA driver (fake)");
  expect_one_message(generate(with_plugin("deaf"), {}), kExitUsage, "GPU 0 does not answer (fake)");
  expect_one_message(generate(with_plugin("other-build"), {"--device", "cuda"}), kExitUsage,
                     "belongs to another build, 0.0.1+fake");
}

}  // namespace
}  // namespace trireme::test
