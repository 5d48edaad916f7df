// engine.device as a user meets it: the real binary with a CUDA library beside it that is not what
// it should be, and with one whose GPUs are the CPU.
#include <filesystem>

#include <gtest/gtest.h>

#include "launcher/exit_code.h"
#include "tests/e2e/program.h"
#include "tests/support/edited_model.h"

namespace trireme::test {
namespace {

const std::string kModel = TRIREME_SOURCE_DIR "/configs/models/gqa";

// The program in a folder of its own, beside a library of tests/support/fake_plugins.
class Installed {
 public:
  explicit Installed(const std::string& library) {
    namespace fs = std::filesystem;
    // Not a symbolic link: the library stands beside the file that runs.
    std::error_code other_file_system;
    fs::create_hard_link(TRIREME_PROGRAM, program(), other_file_system);
    if (other_file_system) fs::copy(TRIREME_PROGRAM, program());
    fs::copy(
        std::string(TRIREME_BINARY_DIR "/tests/fake_plugins/") + library + "/libtrireme_cuda.so",
        folder_.path());
  }
  Ended run(std::vector<std::string> args) const {
    args.insert(args.begin(), program());
    return run_program(args);
  }
  Ended generate(const std::vector<std::string>& more) const {
    std::vector<std::string> args = {"generate",     "-m", kModel,          "-p", "The old man",
                                     "--max-tokens", "4",  "--temperature", "0"};
    args.insert(args.end(), more.begin(), more.end());
    return run(args);
  }

 private:
  std::string program() const { return folder_.path() + "/trireme"; }
  TempFolder folder_;
};

void expect_one_message(const Ended& ended, int code, const std::string& part) {
  EXPECT_EQ(ended.code, code) << ended.error;
  EXPECT_EQ(ended.out, "");
  ASSERT_EQ(ended.messages().size(), 1u) << ended.error;
  EXPECT_NE(ended.messages()[0].find(part), std::string::npos) << ended.messages()[0];
}

TEST(EngineDevice, AutoTakesTheGpusAndSaysSo) {
  const Installed installed("good");
  const Ended cpu = installed.generate({"--device", "cpu"});
  ASSERT_EQ(cpu.code, kExitOk) << cpu.error;
  for (const char* device : {"auto", "cuda"}) {
    const Ended ended = installed.generate({"--device", device, "--stats"});
    ASSERT_EQ(ended.code, kExitOk) << ended.error;
    EXPECT_EQ(ended.out, cpu.out);
    EXPECT_NE(ended.error.find(", cuda/0\n"), std::string::npos) << ended.error;
  }
  EXPECT_NE(installed.run({"--version"}).out.find("\ncuda CUDA 0.0 (fake)\n"), std::string::npos);
  EXPECT_NE(installed.run({"doctor"}).out.find("\nauto      cuda: GPU 0 of 2\n"),
            std::string::npos);
}

TEST(EngineDevice, TheCacheIsWhatTheGpuLeaves) {
  const Installed installed("good");
  // The fake GPU has 2 GiB, of which 512 MiB are in use.
  expect_one_message(installed.generate({"--gpu-memory-utilization", "0.2"}), kExitDoesNotFit,
                     "gpu_memory_utilization 0.2 allows 409.6 MiB");
  expect_one_message(installed.generate({"--set", "engine.kv_cache_memory_bytes=1KiB"}),
                     kExitDoesNotFit, "the cache has 1024");
}

TEST(EngineDevice, ALibraryThatCannotBeUsedIsToldOnce) {
  const Installed installed("no-driver");
  const Ended automatic =
      installed.generate({"--stats", "--tensor-parallel-size", "2", "--threads", "1"});
  ASSERT_EQ(automatic.code, kExitOk) << automatic.error;
  EXPECT_NE(automatic.error.find("(there is no NVIDIA driver (fake))"), std::string::npos)
      << automatic.error;
  expect_one_message(installed.generate({"--device", "cuda", "--tensor-parallel-size", "2"}),
                     kExitUsage, "engine.device is cuda, but there is no NVIDIA driver (fake)");
  expect_one_message(Installed("deaf").generate({}), kExitUsage, "GPU 0 does not answer (fake)");
  expect_one_message(Installed("other-build").generate({"--device", "cuda"}), kExitUsage,
                     "belongs to another build, 0.0.1+fake");
}

}  // namespace
}  // namespace trireme::test
