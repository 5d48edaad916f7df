#include "runtime/model/weights/safetensors_writer.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>
#include <tuple>
#include <utility>

#include <boost/json/serialize.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/base/check.h"
#include "kernels/base/json.h"
#include "runtime/model/weights/safetensors.h"

namespace trireme {
namespace {

Status failed(const std::string& path, std::string_view what, int error) {
  const std::string message = fmt::format("{}: cannot {}: {}", path, what, std::strerror(error));
  if (error == ENOSPC || error == EDQUOT) return resource_exhausted(message);
  return invalid_argument(message);
}

std::string json_string(std::string_view text) {
  return boost::json::serialize(Json(text).get_string());
}

int bits_of(const TensorInfo& info) {
  const SafetensorsDType* dtype = find_safetensors_dtype(info.dtype_name);
  CHECK(dtype != nullptr) << info.dtype_name;
  return dtype->bits;
}

// The header of tensors that lie one behind the other in this order, padded to 8 bytes.
Result<std::string> header_text(const std::vector<TensorInfo>& tensors,
                                const SafetensorsMetadata& metadata) {
  std::vector<std::string> members;
  if (!metadata.empty()) {
    std::vector<std::string> pairs;
    for (const auto& [key, value] : metadata)
      pairs.push_back(fmt::format("{}:{}", json_string(key), json_string(value)));
    members.push_back(fmt::format("\"__metadata__\":{{{}}}", fmt::join(pairs, ",")));
  }
  uint64_t begin = 0;
  for (const TensorInfo& info : tensors) {
    const Result<size_t> bytes = tensor_bytes(info.shape, bits_of(info));
    if (!bytes.ok()) return bytes.status().at(fmt::format("tensor '{}'", printable(info.name)));
    CHECK(*bytes == info.bytes) << info.name;
    if (info.name == "__metadata__") return invalid_argument("no tensor may be named __metadata__");
    members.push_back(fmt::format(R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                                  json_string(info.name), info.dtype_name,
                                  fmt::join(info.shape, ","), begin, begin + info.bytes));
    begin += info.bytes;
  }
  std::string text = fmt::format("{{{}}}", fmt::join(members, ","));
  text.resize((text.size() + 7) / 8 * 8, ' ');
  if (text.size() > kSafetensorsHeaderBytesMax)
    return invalid_argument("the names and shapes are longer than a safetensors header may be");
  const Result<Json> check = parse_json(text);  // names are UTF-8, and each is there once
  if (!check.ok()) return check.status();
  return text;
}

// A new file beside `path`; *partial_path becomes its name.
int create_beside(const std::string& path, std::string* partial_path) {
  std::random_device random;
  for (int attempt = 0; attempt < 16; ++attempt) {
    *partial_path = fmt::format("{}.partial-{:08x}", path, random());
    const int fd = ::open(partial_path->c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0 || errno != EEXIST) return fd;
  }
  return -1;
}

}  // namespace

Result<SafetensorsWriter> SafetensorsWriter::create(const std::string& path,
                                                    std::vector<TensorInfo> tensors,
                                                    const SafetensorsMetadata& metadata) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::make_tuple(-bits_of(a), std::string_view(a.name)) <
           std::make_tuple(-bits_of(b), std::string_view(b.name));
  });
  Result<std::string> header = header_text(tensors, metadata);
  if (!header.ok()) return header.status().at(path);

  SafetensorsWriter writer;
  writer.path_ = path;
  writer.fd_ = create_beside(path, &writer.partial_path_);
  if (writer.fd_ < 0) return failed(path, "create a file beside it", errno);
  uint64_t end = 8 + header->size();
  for (const TensorInfo& info : tensors) {
    writer.cursors_[info.name] = {end, end + info.bytes};
    end += info.bytes;
  }
  // A disk that is too small is said now and not after half an hour. Not posix_fallocate: where a
  // file system cannot reserve, that writes every block instead.
  if (::fallocate(writer.fd_, 0, 0, static_cast<off_t>(end)) != 0 &&
      (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) {
    return failed(path, fmt::format("reserve {} bytes", end), errno);
  }
  std::string start(8, '\0');
  const uint64_t header_bytes = header->size();
  std::memcpy(start.data(), &header_bytes, 8);
  start += *header;
  Status written = writer.write_at(0, std::as_bytes(std::span<const char>(start)));
  if (!written.ok()) return written;
  return writer;
}

SafetensorsWriter::SafetensorsWriter(SafetensorsWriter&& other) noexcept
    : path_(std::move(other.path_)),
      partial_path_(std::move(other.partial_path_)),
      fd_(std::exchange(other.fd_, -1)),
      cursors_(std::move(other.cursors_)) {}

SafetensorsWriter::~SafetensorsWriter() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(partial_path_.c_str());
}

Status SafetensorsWriter::append(std::string_view tensor, std::span<const std::byte> bytes) {
  CHECK(fd_ >= 0);
  const auto at = cursors_.find(tensor);
  CHECK(at != cursors_.end()) << tensor;
  CHECK(bytes.size() <= at->second.end - at->second.next) << tensor;
  Status written = write_at(at->second.next, bytes);
  if (written.ok()) at->second.next += bytes.size();
  return written;
}

Status SafetensorsWriter::write_at(uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed(path_, "write", errno);
    offset += static_cast<uint64_t>(n);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return {};
}

Status SafetensorsWriter::finish() {
  CHECK(fd_ >= 0);
  for (const auto& [name, cursor] : cursors_) CHECK(cursor.next == cursor.end) << name;
  if (::fsync(fd_) != 0) return failed(path_, "write", errno);
  if (::rename(partial_path_.c_str(), path_.c_str()) != 0)
    return failed(path_, "rename to it", errno);
  ::close(std::exchange(fd_, -1));
  return {};
}

Status write_safetensors(const std::string& path, std::span<const TensorToWrite> tensors,
                         const SafetensorsMetadata& metadata) {
  std::vector<TensorInfo> infos;
  for (const TensorToWrite& tensor : tensors) infos.push_back(tensor.info);
  Result<SafetensorsWriter> writer = SafetensorsWriter::create(path, std::move(infos), metadata);
  if (!writer.ok()) return writer.status();
  for (const TensorToWrite& tensor : tensors) {
    Status written = writer->append(tensor.info.name, tensor.bytes);
    if (!written.ok()) return written;
  }
  return writer->finish();
}

}  // namespace trireme
