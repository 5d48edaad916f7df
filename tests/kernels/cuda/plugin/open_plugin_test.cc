// Opening the CUDA library: the right one works, and each wrong one is told in one sentence.
#include "kernels/cuda/plugin/open_plugin.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <unistd.h>

namespace trireme {
namespace {

const std::string kFakes = TRIREME_BINARY_DIR "/tests/fake_plugins/";

Result<CudaLibrary> open(std::vector<std::string> folders) { return open_cuda_library(folders); }

TEST(OpenPlugin, TheFirstFolderThatHasOneIsTaken) {
  const Result<CudaLibrary> library = open({kFakes, kFakes + "good", kFakes + "not-ours"});
  ASSERT_TRUE(library.ok()) << library.status().message();
  EXPECT_EQ(library->path, kFakes + "good/libtrireme_cuda.so");
  EXPECT_EQ(library->plugin->versions(), "CUDA 0.0 (fake)");
  const Result<std::vector<GpuInfo>> gpus = library->plugin->gpus();
  ASSERT_TRUE(gpus.ok());
  EXPECT_EQ(gpus->size(), 2u);
  EXPECT_NE(library->symbol(kCudaPluginSymbol), nullptr);
  EXPECT_EQ(library->symbol("trireme_no_such_thing"), nullptr);
}

// What came out of the library outlives every handle on it.
TEST(OpenPlugin, ADeviceMayBeKept) {
  std::unique_ptr<Device> device;
  Buffer buffer;
  {
    Result<CudaLibrary> library = open({kFakes + "good"});
    ASSERT_TRUE(library.ok());
    device = library->plugin->make_device({1}).take();
    buffer = device->allocate(100).take();
  }
  EXPECT_EQ(device->name(), "cuda/1");
  device.reset();
  buffer = Buffer();
}

struct Wrong {
  const char* folder;
  StatusCode code;
  std::string sentence;
};

TEST(OpenPlugin, EachWrongOneIsToldInOneSentence) {
  const Wrong wrongs[] = {
      {"nowhere", StatusCode::kNotFound,
       "there is no libtrireme_cuda.so in " + kFakes +
           "nowhere or on the linker's path: build it with -DTRIREME_CUDA=ON, and keep it beside "
           "the program"},
      {"needy", StatusCode::kUnavailable,
       kFakes + "needy/libtrireme_cuda.so needs libtrireme_fake_gone.so, which is not on this "
                "machine: install CUDA's libraries, or add their folder to LD_LIBRARY_PATH"},
      {"not-ours", StatusCode::kUnavailable,
       kFakes + "not-ours/libtrireme_cuda.so is not Trireme's: it has no symbol "
                "trireme_cuda_plugin"},
      {"other-build", StatusCode::kUnavailable,
       kFakes +
           "other-build/libtrireme_cuda.so belongs to another build, 0.0.1+fake, and this "
           "program is of " +
           cuda_plugin_abi() + ": install the two of one build"},
  };
  for (const Wrong& wrong : wrongs) {
    const Result<CudaLibrary> library = open({kFakes + wrong.folder});
    EXPECT_EQ(library.status().code(), wrong.code) << wrong.folder;
    EXPECT_EQ(library.status().message(), wrong.sentence);
  }
}

TEST(OpenPlugin, AFileThatIsNoLibrary) {
  const std::string folder = std::filesystem::temp_directory_path().string() +
                             "/trireme_no_library_" + std::to_string(getpid());
  std::filesystem::create_directory(folder);
  std::ofstream(folder + "/libtrireme_cuda.so") << "not a library";
  const Result<CudaLibrary> library = open({folder, kFakes + "good"});
  std::filesystem::remove_all(folder);
  EXPECT_EQ(library.status().code(), StatusCode::kUnavailable);
  EXPECT_TRUE(
      library.status().message().starts_with("the CUDA library cannot be opened: " + folder))
      << library.status().message();
}

TEST(OpenPlugin, TheBuildIsNamedByVersionAndHash) {
  const std::string abi = cuda_plugin_abi();
  const size_t plus = abi.find('+');
  ASSERT_NE(plus, std::string::npos) << abi;
  EXPECT_EQ(abi.size() - plus - 1, 16u) << abi;
}

}  // namespace
}  // namespace trireme
