#include "runtime/model/weights/rwkv_pth.h"

#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "runtime/model/weights/mapped_file.h"
#include "runtime/model/weights/safetensors_writer.h"

namespace trireme {
namespace {

constexpr std::string_view kPickleName = "/data.pkl";

// The archive's own folder, which torch names after the file: "archive", "RWKV-x070-...".
Result<std::string> archive_folder(const ZipReader& zip) {
  const ZipEntry* pickle = nullptr;
  for (const ZipEntry& entry : zip.entries()) {
    if (!entry.name.ends_with(kPickleName)) continue;
    if (pickle != nullptr) return data_loss("the archive has two data.pkl");
    pickle = &entry;
  }
  if (pickle == nullptr)
    return data_loss("the archive has no data.pkl: it was not made by torch.save");
  return std::string(pickle->name.substr(0, pickle->name.size() - kPickleName.size()));
}

Status check_byte_order(const ZipReader& zip, const std::string& folder) {
  const ZipEntry* entry = zip.find(folder + "/byteorder");
  if (entry == nullptr) return {};  // before PyTorch 2.1: of the machine that wrote it
  const std::string_view order(reinterpret_cast<const char*>(entry->bytes.data()),
                               entry->bytes.size());
  if (order == "little") return {};
  return unimplemented(
      fmt::format("the file's byte order is '{}'; only little is read", printable(order)));
}

uint64_t element_bytes(const PickledTensor& tensor) {
  return static_cast<uint64_t>(find_safetensors_dtype(tensor.info.dtype_name)->bits) / 8;
}

// A hostile pickle may name one storage again and again; what comes out stays in proportion.
Status check_total(const std::vector<PthTensor>& tensors, size_t file_bytes) {
  uint64_t total = 0;
  for (const PthTensor& t : tensors) {
    if (__builtin_add_overflow(total, uint64_t{t.tensor.info.bytes}, &total)) total = UINT64_MAX;
    if (total / 8 > file_bytes) {
      return data_loss(
          "the tensors share their storages so often that the result would have more "
          "than 8 times the bytes of the file");
    }
  }
  return {};
}

// The elements of a tensor that is not contiguous.
Status gather_elements(const PthTensor& t, const TakeBytes& take) {
  constexpr size_t kPieceBytes = 1 << 20;
  const size_t element = element_bytes(t.tensor);
  const std::vector<int64_t>& shape = t.tensor.info.shape;
  std::vector<int64_t> index(shape.size(), 0);
  std::vector<std::byte> piece;
  int64_t at = t.tensor.offset;
  for (size_t done = 0; done < t.tensor.info.bytes; done += element) {
    const std::byte* from = t.storage.bytes.data() + static_cast<size_t>(at) * element;
    piece.insert(piece.end(), from, from + element);
    if (piece.size() + element > kPieceBytes) {
      Status taken = take(piece);
      if (!taken.ok()) return taken;
      piece.clear();
    }
    for (size_t d = shape.size(); d-- > 0;) {  // the next index, last dimension fastest
      if (shape[d] == 1) continue;             // its stride may be any number
      at += t.tensor.stride[d];
      if (++index[d] < shape[d]) break;
      at -= shape[d] * t.tensor.stride[d];
      index[d] = 0;
    }
  }
  return take(piece);
}

}  // namespace

Result<std::vector<PthTensor>> parse_pth(std::span<const std::byte> file) {
  const Result<ZipReader> zip = ZipReader::open(file);
  if (!zip.ok()) return zip.status();
  const Result<std::string> folder = archive_folder(*zip);
  if (!folder.ok()) return folder.status();
  Status order = check_byte_order(*zip, *folder);
  if (!order.ok()) return order;
  const ZipEntry* pickle = zip->find(*folder + std::string(kPickleName));
  Status crc = check_crc(*pickle);
  if (!crc.ok()) return crc;
  Result<std::vector<PickledTensor>> pickled = unpickle_tensors(pickle->bytes);
  if (!pickled.ok()) return pickled.status();
  if (pickled->empty()) return invalid_argument("the file holds no tensor");

  std::vector<PthTensor> tensors;
  for (PickledTensor& tensor : *pickled) {
    const ZipEntry* storage = zip->find(*folder + "/data/" + tensor.storage_key);
    if (storage == nullptr) {
      return data_loss(fmt::format("the storage '{}' of tensor '{}' is missing",
                                   printable(tensor.storage_key), printable(tensor.info.name)));
    }
    if (storage->bytes.size() % element_bytes(tensor) != 0 ||
        storage->bytes.size() / element_bytes(tensor) !=
            static_cast<uint64_t>(tensor.storage_elements)) {
      return data_loss(fmt::format(
          "the storage of tensor '{}' has {} bytes, and the pickle says {} elements of {}",
          printable(tensor.info.name), storage->bytes.size(), tensor.storage_elements,
          tensor.info.dtype_name));
    }
    tensors.push_back({std::move(tensor), *storage});
  }
  Status total = check_total(tensors, file.size());
  if (!total.ok()) return total;
  return tensors;
}

Status read_elements(const PthTensor& t, const TakeBytes& take) {
  if (!t.tensor.contiguous()) return gather_elements(t, take);
  if (t.tensor.info.bytes == 0) return {};
  const size_t from = static_cast<size_t>(t.tensor.offset) * element_bytes(t.tensor);
  return take(t.storage.bytes.subspan(from, t.tensor.info.bytes));
}

Status convert_rwkv_pth(const std::string& in, const std::string& out) {
  std::error_code error;
  if (std::filesystem::equivalent(in, out, error))
    return invalid_argument(fmt::format("{}: the output would replace the input", out));
  const Result<MappedFile> file = MappedFile::open(in);
  if (!file.ok()) return file.status();
  const Result<std::vector<PthTensor>> tensors = parse_pth(file->bytes());
  if (!tensors.ok()) return tensors.status().at(in);

  std::vector<TensorInfo> infos;
  for (const PthTensor& t : *tensors) infos.push_back(t.tensor.info);
  Result<SafetensorsWriter> writer =
      SafetensorsWriter::create(out, std::move(infos), {{"format", "pt"}});
  if (!writer.ok()) return writer.status();
  const std::byte* checked = nullptr;  // the storage whose checksum was compared last
  for (const PthTensor& t : *tensors) {
    if (t.storage.bytes.data() != checked) {
      will_need(t.storage.bytes);
      Status crc = check_crc(t.storage);
      if (!crc.ok()) return crc.at(in);
      checked = t.storage.bytes.data();
    }
    Status written = read_elements(t, [&](std::span<const std::byte> piece) {
      return writer->append(t.tensor.info.name, piece);
    });
    if (!written.ok()) return written;
  }
  return writer->finish();
}

}  // namespace trireme
