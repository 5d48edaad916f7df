// What the writer writes, the reader reads; and a file appears whole or not at all.
#include "runtime/model/weights/safetensors_writer.h"

#include <filesystem>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "runtime/model/weights/checkpoint.h"
#include "runtime/model/weights/safetensors.h"
#include "tests/runtime/model/weights/safetensors_bytes.h"

namespace trireme {
namespace {

size_t files_in(const TestFolder& folder) {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path()))
    ++count;
  return count;
}

// The same bytes as the reference writer's for its test_serialization: one F32 tensor, header
// padded to 8.
TEST(SafetensorsWriter, WritesTheReferencesBytes) {
  const TestFolder folder;
  const float values[6] = {0, 1, 2, 3, 4, 5};
  const TensorToWrite tensor{make_tensor_info("attn.0", DType::kF32, {1, 2, 3}),
                             std::as_bytes(std::span(values))};
  ASSERT_TRUE(write_safetensors(folder.file("x"), {&tensor, 1}).ok());
  const std::string header = R"({"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}})";
  EXPECT_EQ(read_whole_file(folder.file("x")),
            safetensors_bytes(header, {reinterpret_cast<const char*>(values), sizeof values}));
  EXPECT_EQ(header.size() % 8, 0u);
}

TEST(SafetensorsWriter, RoundTripOfManyTensorsInPieces) {
  const TestFolder folder;
  const std::string path = folder.file("model.safetensors");
  std::vector<TensorInfo> infos = {make_tensor_info("b.bytes", DType::kI8, {3}),
                                   make_tensor_info("a.half", DType::kBF16, {2, 2}),
                                   make_tensor_info("quote\"\\\n\xc3\xa9", DType::kI64, {2}),
                                   make_tensor_info("scalar", DType::kF32, {}),
                                   make_tensor_info("none", DType::kF16, {0, 4})};
  infos.push_back({"fp8", find_safetensors_dtype("F8_E4M3")->name, std::nullopt, {5}, 5});
  auto writer = SafetensorsWriter::create(path, infos, {{"format", "pt"}});
  ASSERT_TRUE(writer.ok()) << writer.status().message();
  const auto append = [&](const std::string& name, const std::string& bytes) {
    ASSERT_TRUE(writer->append(name, as_bytes(bytes)).ok());
  };
  append("fp8", "fp8");
  append("a.half", "AA");
  append("b.bytes", "bbb");
  append("a.half", "BBCCDD");
  append("quote\"\\\n\xc3\xa9", "0123456789abcdef");
  append("fp8", "!!");
  append("scalar", "1234");
  EXPECT_FALSE(std::filesystem::exists(path));  // not before it is whole
  ASSERT_TRUE(writer->finish().ok());
  EXPECT_EQ(files_in(folder), 1u);

  const auto checkpoint = open_checkpoint(path);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  const auto text = [&](const std::string& name) {
    const TensorInfo* info = (*checkpoint)->find(name);
    EXPECT_NE(info, nullptr) << name;
    const auto bytes = *(*checkpoint)->bytes(*info);
    EXPECT_EQ(
        reinterpret_cast<uintptr_t>(bytes.data()) % (info->dtype ? dtype_bytes(*info->dtype) : 1),
        0u);
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  EXPECT_EQ((*checkpoint)->tensors().size(), 6u);
  EXPECT_EQ(text("a.half"), "AABBCCDD");
  EXPECT_EQ(text("b.bytes"), "bbb");
  EXPECT_EQ(text("quote\"\\\n\xc3\xa9"), "0123456789abcdef");
  EXPECT_EQ(text("scalar"), "1234");
  EXPECT_EQ(text("none"), "");
  EXPECT_EQ(text("fp8"), "fp8!!");
  const std::string file = read_whole_file(path);
  const auto parsed = parse_safetensors(as_bytes(file));
  EXPECT_EQ(parsed->metadata, (SafetensorsMetadata{{"format", "pt"}}));
}

TEST(SafetensorsWriter, AnEmptyFileIsWhole) {
  const TestFolder folder;
  ASSERT_TRUE(write_safetensors(folder.file("x"), {}).ok());
  EXPECT_EQ(read_whole_file(folder.file("x")), safetensors_bytes("{}      ", ""));
}

TEST(SafetensorsWriter, WithoutFinishNothingIsLeft) {
  const TestFolder folder;
  folder.write("x", "the old file");
  {
    auto writer =
        SafetensorsWriter::create(folder.file("x"), {make_tensor_info("a", DType::kF32, {1})});
    ASSERT_TRUE(writer.ok());
    EXPECT_EQ(files_in(folder), 2u);
  }
  EXPECT_EQ(files_in(folder), 1u);
  EXPECT_EQ(read_whole_file(folder.file("x")), "the old file");
}

// A reader that has the old file mapped keeps its bytes while the file is written anew.
TEST(SafetensorsWriter, AMappedFileMayBeReplaced) {
  const TestFolder folder;
  const std::string path = folder.file("model.safetensors");
  const float one = 1, two = 2;
  const TensorInfo info = make_tensor_info("a", DType::kF32, {1});
  const TensorToWrite first{info, std::as_bytes(std::span(&one, 1))};
  const TensorToWrite second{info, std::as_bytes(std::span(&two, 1))};
  ASSERT_TRUE(write_safetensors(path, {&first, 1}).ok());
  const auto old_file = open_checkpoint(path);
  ASSERT_TRUE(write_safetensors(path, {&second, 1}).ok());
  EXPECT_EQ(matrix(**old_file, "a", 1, 1)->f32_row(0)[0], 1.f);
  EXPECT_EQ(matrix(**open_checkpoint(path), "a", 1, 1)->f32_row(0)[0], 2.f);
}

TEST(SafetensorsWriter, RefusesWhatCouldNotBeReadBack) {
  const TestFolder folder;
  const auto refused = [&](std::vector<TensorInfo> infos, const std::string& why) {
    const auto writer = SafetensorsWriter::create(folder.file("x"), std::move(infos));
    ASSERT_FALSE(writer.ok());
    EXPECT_NE(writer.status().message().find(why), std::string::npos) << writer.status().message();
  };
  const TensorInfo a = make_tensor_info("a", DType::kF32, {1});
  refused({a, a}, "duplicate JSON key 'a'");
  refused({make_tensor_info("\xff", DType::kF32, {1})}, "not valid JSON");
  refused({make_tensor_info("__metadata__", DType::kF32, {1})}, "__metadata__");
  EXPECT_EQ(files_in(folder), 0u);
  const auto nowhere = SafetensorsWriter::create(folder.file("no/such/folder/x"), {a});
  ASSERT_FALSE(nowhere.ok());
  EXPECT_NE(nowhere.status().message().find("cannot create a file beside it"), std::string::npos);
}

}  // namespace
}  // namespace trireme
