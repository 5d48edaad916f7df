// What doctor says of machines with GPUs, without, and with a library that cannot be used.
#include "launcher/commands/doctor.h"

#include <gtest/gtest.h>

namespace trireme {
namespace {

const std::string kFakes = TRIREME_BINARY_DIR "/tests/fake_plugins/";

MachineReport examine(const std::string& kind) {
  const std::string folders[] = {kFakes + kind};
  return examine_machine(folders);
}

TEST(Doctor, NamesTheGpusAndTakesOne) {
  const MachineReport report = examine("good");
  EXPECT_EQ(choice_text(report), "cuda: GPU 0 of 2");
  const std::string text = report_text(report);
  for (const std::string& line :
       {"library   " + kFakes + "good/libtrireme_cuda.so\n",
        std::string("cuda      CUDA 0.0 (fake)\n"),
        std::string("gpu 1     Fake 2000, compute capability 9.0, 7 multiprocessors, 2 GiB\n"),
        std::string("auto      cuda: GPU 0 of 2\n")})
    EXPECT_NE(text.find(line), std::string::npos) << line << "in\n" << text;
  const Json json = report_json(report);
  EXPECT_EQ(json.at("auto"), "cuda");
  EXPECT_EQ(json.at("cuda").at("gpus").as_array().size(), 2u);
  EXPECT_EQ(json.at("cuda").at("gpus").at(1).at("compute_capability"), "9.0");
  EXPECT_TRUE(json.at("cuda").at("problem").is_null());
}

TEST(Doctor, SaysWhyThereIsNoGpu) {
  for (const std::string kind : {"nowhere", "no-driver", "other-build", "needy", "not-ours"}) {
    const MachineReport report = examine(kind);
    EXPECT_EQ(choice_text(report), "cpu: " + report.cuda.problem.message());
    EXPECT_NE(report_text(report).find("auto      cpu: "), std::string::npos);
    const Json json = report_json(report);
    EXPECT_EQ(json.at("auto"), "cpu");
    EXPECT_EQ(json.at("cuda").at("problem").as_string(), report.cuda.problem.message());
    EXPECT_EQ(json.at("cuda").at("library").is_null(), kind != "no-driver");
  }
}

TEST(Doctor, ReadsTheHost) {
  const DeviceMemory memory =
      parse_meminfo("MemTotal:       2048 kB\nMemFree: 1 kB\nMemAvailable:   1024 kB\n");
  EXPECT_EQ(memory.bytes_total, uint64_t{2} << 20);
  EXPECT_EQ(memory.bytes_free, uint64_t{1} << 20);
  EXPECT_EQ(parse_meminfo("nothing").bytes_total, 0u);
  const MachineReport report = examine("nowhere");
  EXPECT_GT(report.cores, 0);
  EXPECT_GT(report.memory.bytes_total, 0u);
  EXPECT_FALSE(report.mpi.empty() || report.version.empty() || report.isa.empty());
}

}  // namespace
}  // namespace trireme
