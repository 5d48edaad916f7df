// trireme doctor: what this machine has. Needs no model and no configuration.
#include "launcher/commands/doctor.h"

#include <charconv>
#include <fstream>
#include <sstream>

#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "kernels/cpu/features.h"
#include "launcher/commands/commands.h"
#include "launcher/output.h"
#include "launcher/version.h"
#include "runtime/config/units.h"

namespace trireme {
namespace {

std::string capability(const GpuInfo& gpu) {
  return fmt::format("{}.{}", gpu.capability_major, gpu.capability_minor);
}

// NCCL's version, or why there is none.
std::string nccl_text(const NcclDoor& nccl) {
  const Result<std::string> version = nccl.version();
  return version.ok() ? *version : std::string(version.status().message());
}

}  // namespace

DeviceMemory parse_meminfo(std::string_view text) {
  // "MemTotal:       24576000 kB"
  const auto field = [&](std::string_view name) -> uint64_t {
    size_t at = text.find(name);
    if (at == std::string_view::npos) return 0;
    at = text.find_first_not_of(' ', at + name.size());
    if (at == std::string_view::npos) return 0;
    uint64_t kibibytes = 0;
    std::from_chars(text.data() + at, text.data() + text.size(), kibibytes);
    return kibibytes << 10;
  };
  return {field("MemTotal:"), field("MemAvailable:")};
}

MachineReport examine_machine(std::span<const std::string> folders) {
  MachineReport report;
  report.version = version_number();
  report.compiler = compiler_version();
  report.isa = isa_name(best_isa());
  report.mpi = mpi_version();
  report.cores = allowed_cores();
  std::stringstream meminfo;
  meminfo << std::ifstream("/proc/meminfo").rdbuf();
  report.memory = parse_meminfo(meminfo.str());
  report.cuda = look_for_cuda(folders);
  const Result<DeviceChoice> alone = choose_device(DeviceKind::kAuto, report.cuda, 0, 1);
  CHECK(alone.ok());  // auto takes what there is
  report.alone = *alone;
  return report;
}

std::string choice_text(const MachineReport& report) {
  if (report.alone.kind == DeviceKind::kCpu)
    return fmt::format("cpu: {}", report.cuda.problem.message());
  return fmt::format("cuda: GPU {} of {}", report.alone.gpu, report.cuda.gpus.size());
}

std::string report_text(const MachineReport& report) {
  std::string text;
  const auto line = [&](std::string_view name, std::string_view value) {
    text += fmt::format("{:<10}{}\n", name, value);
  };
  line("trireme", report.version);
  line("compiler", report.compiler);
  line("isa", report.isa);
  line("cores", fmt::format("{}", report.cores));
  line("memory", fmt::format("{}, {} free", format_size(report.memory.bytes_total),
                             format_size(report.memory.bytes_free)));
  line("mpi", report.mpi);
  const CudaFound& cuda = report.cuda;
  if (cuda.library) {
    line("library", cuda.library->path);
    line("cuda", cuda.library->plugin->versions());
    if (const NcclDoor* nccl = nccl_door(*cuda.library); nccl != nullptr)
      line("nccl", nccl_text(*nccl));
  }
  for (const GpuInfo& gpu : cuda.gpus) {
    line(fmt::format("gpu {}", gpu.ordinal),
         fmt::format("{}, compute capability {}, {} multiprocessors, {}", gpu.name, capability(gpu),
                     gpu.multiprocessors, format_size(gpu.memory_bytes)));
  }
  line("auto", choice_text(report));
  return text;
}

Json report_json(const MachineReport& report) {
  const CudaFound& found = report.cuda;
  JsonArray gpus;
  for (const GpuInfo& gpu : found.gpus) {
    gpus.push_back(JsonObject{{"ordinal", gpu.ordinal},
                              {"name", gpu.name},
                              {"compute_capability", capability(gpu)},
                              {"multiprocessors", gpu.multiprocessors},
                              {"memory_bytes", gpu.memory_bytes}});
  }
  JsonObject cuda{{"library", nullptr},
                  {"versions", nullptr},
                  {"problem", nullptr},
                  {"nccl", nullptr},
                  {"gpus", gpus}};
  if (found.library) {
    cuda["library"] = found.library->path;
    cuda["versions"] = found.library->plugin->versions();
    if (const NcclDoor* nccl = nccl_door(*found.library); nccl != nullptr)
      cuda["nccl"] = nccl_text(*nccl);
  }
  if (!found.problem.ok()) cuda["problem"] = found.problem.message();
  return JsonObject{{"version", report.version},
                    {"compiler", report.compiler},
                    {"isa", report.isa},
                    {"cores", report.cores},
                    {"memory_bytes", report.memory.bytes_total},
                    {"memory_bytes_free", report.memory.bytes_free},
                    {"mpi", report.mpi},
                    {"cuda", cuda},
                    {"auto", report.alone.kind == DeviceKind::kCuda ? "cuda" : "cpu"}};
}

int run_doctor(const DoctorFlags& flags) {
  const MachineReport report = examine_machine(cuda_library_folders());
  const Status written = write_result(
      flags.json ? boost::json::serialize(report_json(report)) + "\n" : report_text(report));
  if (!written.ok()) print_error(written);
  return written.ok() ? kExitOk : kExitRuntime;
}

}  // namespace trireme
