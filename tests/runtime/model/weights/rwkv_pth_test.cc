// .pth files of torch.save become safetensors. data/*.pth are torch's own (data/README.md says how
// they were made); the wrong ones are built here.
#include "runtime/model/weights/rwkv_pth.h"

#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "runtime/model/weights/checkpoint.h"
#include "tests/runtime/model/weights/archive_bytes.h"
#include "tests/runtime/model/weights/safetensors_bytes.h"

namespace trireme {
namespace {

const std::string kData = TRIREME_SOURCE_DIR "/tests/runtime/model/weights/data/";

// The file that convert makes of `pth` has the tensors of `expected`, byte by byte.
void expect_converts(const std::string& pth, const std::string& expected) {
  const TestFolder folder;
  const std::string out = folder.file("out.safetensors");
  const Status status = convert_rwkv_pth(pth, out);
  ASSERT_TRUE(status.ok()) << status.message();
  const auto ours = open_checkpoint(out);
  const auto theirs = open_checkpoint(expected);
  ASSERT_TRUE(ours.ok()) << ours.status().message();
  ASSERT_TRUE(theirs.ok()) << theirs.status().message();
  ASSERT_EQ((*ours)->tensors().size(), (*theirs)->tensors().size());
  for (const TensorInfo& info : (*theirs)->tensors()) {
    const TensorInfo* mine = (*ours)->find(info.name);
    ASSERT_NE(mine, nullptr) << info.name;
    EXPECT_EQ(mine->dtype_name, info.dtype_name) << info.name;
    EXPECT_EQ(mine->shape, info.shape) << info.name;
    const auto a = *(*ours)->bytes(*mine);
    const auto b = *(*theirs)->bytes(info);
    EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end())) << info.name;
  }
}

TEST(RwkvPth, ConvertsWhatTorchSaves) {
  expect_converts(kData + "mixed.pth", kData + "mixed.safetensors");
}

TEST(RwkvPth, ConvertsAStateDictOfAModule) {
  expect_converts(kData + "state_dict.pth", kData + "state_dict.safetensors");
}

// A .pth of 4 floats, to be spoilt.
std::string pth_of(const std::string& pickle, const std::string& storage,
                   const std::string& byteorder = "little") {
  ZipBytes zip;
  zip.entries = {{"x/data.pkl", pickle}, {"x/byteorder", byteorder}, {"x/data/0", storage}};
  return zip.build();
}
const std::string kPickle = pickle::dict(
    {{"w", pickle::tensor(pickle::storage("FloatStorage", "0", 4), 0, {2, 2}, {2, 1})}});
const std::string kStorage = "aaaabbbbccccdddd";

void expect_refused(const std::string& file, const std::string& why) {
  const TestFolder folder;
  const Status status =
      convert_rwkv_pth(folder.write("in.pth", file), folder.file("out.safetensors"));
  ASSERT_FALSE(status.ok()) << why;
  EXPECT_EQ(status.message().rfind(folder.file("in.pth") + ": ", 0), 0u) << status.message();
  EXPECT_NE(status.message().find(why), std::string::npos)
      << "said: " << status.message() << "\n not: " << why;
  size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path()))
    ++files;
  EXPECT_EQ(files, 1u);  // no output, no half of one
}

TEST(RwkvPth, TheFileToSpoilIsGood) {
  const TestFolder folder;
  const std::string out = folder.file("out.safetensors");
  ASSERT_TRUE(convert_rwkv_pth(folder.write("in.pth", pth_of(kPickle, kStorage)), out).ok());
  const auto checkpoint = open_checkpoint(out);
  EXPECT_EQ((*checkpoint)->tensors()[0].shape, (std::vector<int64_t>{2, 2}));
}

TEST(RwkvPth, AnythingButTensorsIsRefused) {
  expect_refused(pth_of(pickle::dict({{"w", pickle::global("os", "system") +
                                                pickle::tuple({pickle::text("true")}) + "R"}}),
                        kStorage),
                 "the pickle wants to call 'os.system'; only tensors are read");
  expect_refused(pth_of(pickle::dict({}), kStorage), "holds no tensor");
}

TEST(RwkvPth, DamagedFiles) {
  expect_refused("", "no ZIP archive");
  expect_refused("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 \x6a\xa8P\x19.",
                 "before 1.6");  // the old format
  expect_refused(pth_of(kPickle, kStorage.substr(1)), "15 bytes, and the pickle says 4 elements");
  expect_refused(pth_of(kPickle, kStorage + "eeee"), "20 bytes, and the pickle says 4 elements");
  expect_refused(pth_of(kPickle, kStorage, "big"), "byte order is 'big'");
  ZipBytes zip;
  zip.entries = {{"x/data.pkl", kPickle}};
  expect_refused(zip.build(), "the storage '0' of tensor 'w' is missing");
  zip.entries = {{"x/data/0", kStorage}};
  expect_refused(zip.build(), "no data.pkl");
  zip.entries = {{"x/data.pkl", kPickle}, {"y/data.pkl", kPickle}, {"x/data/0", kStorage}};
  expect_refused(zip.build(), "two data.pkl");
  zip.entries = {{"x/data.pkl", kPickle}, {"x/data/0", kStorage}};
  zip.entries[1].crc ^= 1;
  expect_refused(zip.build(), "'x/data/0' has checksum");
  zip.entries[1].crc ^= 1;
  zip.entries[0].crc ^= 1;
  expect_refused(zip.build(), "'x/data.pkl' has checksum");
}

TEST(RwkvPth, AStorageThatIsNamedWithoutEndIsRefused) {
  std::vector<std::pair<std::string, std::string>> tensors;
  for (int i = 0; i < 20; ++i)
    tensors.emplace_back(
        std::to_string(i),
        pickle::tensor(pickle::storage("FloatStorage", "0", 65536), 0, {65536}, {1}));
  expect_refused(pth_of(pickle::dict(tensors), std::string(4 * 65536, 'x')),
                 "more than 8 times the bytes of the file");
}

TEST(RwkvPth, InputAndOutput) {
  const TestFolder folder;
  const std::string in = folder.write("in.pth", pth_of(kPickle, kStorage));
  EXPECT_NE(convert_rwkv_pth(in, in).message().find("would replace the input"), std::string::npos);
  EXPECT_EQ(convert_rwkv_pth(folder.file("absent"), in).code(), StatusCode::kNotFound);
  EXPECT_FALSE(convert_rwkv_pth(in, folder.file("no/folder/x")).ok());
  EXPECT_EQ(read_whole_file(in), pth_of(kPickle, kStorage));
}

// Gathering by strides against the definition: element (i, j, k) is at offset + i*s0 + j*s1 + k*s2.
TEST(RwkvPth, StridedTensorsAreGatheredByTheirDefinition) {
  std::string storage;
  for (char c = 0; c < 100; ++c) storage += c;
  struct Case {
    int32_t offset;
    std::vector<int32_t> shape, stride;
  };
  const Case cases[] = {
      {0, {2, 3, 4}, {1, 2, 6}},      {5, {4, 5}, {1, 4}},  {1, {3, 1, 7}, {9, 55, 1}},
      {99, {1, 1}, {77, 2147483647}}, {0, {10}, {11}},      {3, {2, 2, 2}, {1, 1, 1}},
      {0, {2, 0, 3}, {5, 7, 9}},      {0, {5, 4}, {20, 5}}, {7, {}, {}}};
  for (const Case& c : cases) {
    ZipBytes zip;
    zip.entries = {
        {"x/data.pkl", pickle::dict({{"w", pickle::tensor(pickle::storage("ByteStorage", "0", 100),
                                                          c.offset, c.shape, c.stride)}})},
        {"x/data/0", storage}};
    const std::string file = zip.build();
    const auto tensors = parse_pth(as_bytes(file));
    ASSERT_TRUE(tensors.ok()) << tensors.status().message();
    std::string expected{static_cast<char>(c.offset)};  // all positions, one dimension at a time
    for (size_t d = 0; d < c.shape.size(); ++d) {
      std::string longer;
      for (const char at : expected)
        for (int32_t i = 0; i < c.shape[d]; ++i)
          longer += static_cast<char>(at + (i == 0 ? 0 : i * c.stride[d]));
      expected = longer;
    }
    std::string got;
    ASSERT_TRUE(read_elements((*tensors)[0], [&](std::span<const std::byte> piece) {
                  got.append(reinterpret_cast<const char*>(piece.data()), piece.size());
                  return Status();
                }).ok());
    EXPECT_EQ(got, expected) << shape_text((*tensors)[0].tensor.info.shape);
  }
}

}  // namespace
}  // namespace trireme
