// Checkpoints of one and of many files: what is read, what a hostile folder can not do, and how a
// tensor becomes a matrix.
#include "runtime/model/weights/checkpoint.h"

#include <cstring>
#include <filesystem>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "tests/runtime/model/weights/safetensors_bytes.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;

std::string floats(std::initializer_list<float> values) {
  std::string bytes;
  for (const float v : values) bytes.append(reinterpret_cast<const char*>(&v), sizeof v);
  return bytes;
}

// A file with one F32 vector of `values`, its data on a multiple of 8.
std::string file_of(const std::string& name, std::initializer_list<float> values) {
  std::string header = "{\"" + name + R"(":{"dtype":"F32","shape":[)" +
                       std::to_string(values.size()) + R"(],"data_offsets":[0,)" +
                       std::to_string(4 * values.size()) + "]}}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  return safetensors_bytes(header, floats(values));
}

void expect_refused(const std::string& path, const std::string& why) {
  const auto checkpoint = open_checkpoint(path);
  ASSERT_FALSE(checkpoint.ok()) << why;
  EXPECT_NE(checkpoint.status().message().find(why), std::string::npos)
      << "said: " << checkpoint.status().message() << "\n not: " << why;
}

std::unique_ptr<Checkpoint> open_ok(const std::string& path) {
  auto checkpoint = open_checkpoint(path);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  return checkpoint.ok() ? checkpoint.take() : nullptr;
}

float first_float(const Checkpoint& checkpoint, const std::string& name) {
  const TensorInfo* info = checkpoint.find(name);
  EXPECT_NE(info, nullptr) << name;
  float value = 0;
  std::memcpy(&value, checkpoint.bytes(*info)->data(), sizeof value);
  return value;
}

TEST(Checkpoint, OneFile) {
  const TestFolder folder;
  const auto checkpoint = open_ok(folder.write("any.safetensors", file_of("a.b", {1.5f, 2.f})));
  ASSERT_EQ(checkpoint->tensors().size(), 1u);
  EXPECT_EQ(first_float(*checkpoint, "a.b"), 1.5f);
  EXPECT_EQ(checkpoint->find("a"), nullptr);
  EXPECT_EQ(checkpoint->find(""), nullptr);
  EXPECT_EQ(checkpoint->find("z"), nullptr);
  EXPECT_EQ(checkpoint->path_of(checkpoint->tensors()[0]), folder.file("any.safetensors"));
}

TEST(Checkpoint, AFolderWithOneFileOfAnyName) {
  const TestFolder folder;
  folder.write("rwkv7.safetensors", file_of("a", {3.f}));
  folder.write("config.json", "{}");
  EXPECT_EQ(first_float(*open_ok(folder.path()), "a"), 3.f);
  folder.write("model.safetensors", file_of("a", {4.f}));  // the standard name goes first
  EXPECT_EQ(first_float(*open_ok(folder.path()), "a"), 4.f);
}

TEST(Checkpoint, AFolderThatDoesNotSayWhichFile) {
  const TestFolder folder;
  expect_refused(folder.path(), "no other .safetensors file");
  expect_refused(folder.file("absent"), "no such file or folder");
  folder.write("one.safetensors", file_of("a", {3.f}));
  folder.write("two.safetensors", file_of("a", {3.f}));
  expect_refused(folder.path(), "name the one to load");
}

TEST(Checkpoint, PicklesAreNotLoaded) {
  const TestFolder folder;
  const std::string pth = folder.write("RWKV-x070.pth", "PK");
  expect_refused(pth, "trireme convert rwkv-pth " + pth);
  expect_refused(folder.path(), "trireme convert rwkv-pth " + pth);
  expect_refused(folder.write("pytorch_model.bin", "PK"), "use the model's .safetensors files");
}

TEST(Checkpoint, NotARegularFile) { expect_refused("/dev/null", "not a regular file"); }

class ShardedCheckpoint : public testing::Test {
 protected:
  ShardedCheckpoint() {
    folder_.write("model-1-of-2.safetensors", file_of("a", {1.f}));
    folder_.write("model-2-of-2.safetensors", file_of("b", {2.f}));
  }
  void write_index(const std::string& weight_map) {
    folder_.write("model.safetensors.index.json",
                  R"({"metadata":{"total_size":8},"weight_map":)" + weight_map + "}");
  }
  static constexpr const char* kGood =
      R"({"a":"model-1-of-2.safetensors","b":"model-2-of-2.safetensors"})";
  TestFolder folder_;
};

TEST_F(ShardedCheckpoint, ReadsEachTensorFromItsFile) {
  write_index(kGood);
  folder_.write("consolidated.safetensors", "not listed, not read");
  const auto checkpoint = open_ok(folder_.path());
  ASSERT_EQ(checkpoint->tensors().size(), 2u);
  EXPECT_EQ(first_float(*checkpoint, "a"), 1.f);
  EXPECT_EQ(first_float(*checkpoint, "b"), 2.f);
  EXPECT_EQ(checkpoint->path_of(*checkpoint->find("b")), folder_.file("model-2-of-2.safetensors"));
  EXPECT_EQ(first_float(*open_ok(folder_.file("model.safetensors.index.json")), "b"), 2.f);
}

TEST_F(ShardedCheckpoint, HostilePathsAreRefused) {
  for (const std::string hostile :
       {"../model-2-of-2.safetensors", "/etc/passwd", "/etc/x.safetensors", "..", ".", "",
        "sub/x.safetensors", "..\\\\x.safetensors", "./model-2-of-2.safetensors", ".safetensors",
        "x.safetensors\\u0000.safetensors", "model-2-of-2.bin", "config.json"}) {
    write_index(R"({"a":"model-1-of-2.safetensors","b":")" + hostile + "\"}");
    expect_refused(folder_.path(), "only plain names of .safetensors files");
  }
}

TEST_F(ShardedCheckpoint, LinksThatLeaveTheFolderAreRefused) {
  write_index(kGood);
  const TestFolder other;
  const std::string secret = other.write("secret.safetensors", file_of("b", {7.f}));
  fs::remove(folder_.file("model-2-of-2.safetensors"));
  fs::create_symlink(secret, folder_.file("model-2-of-2.safetensors"));
  expect_refused(folder_.path(), "a link that leaves its folder");
  fs::remove(folder_.file("model-2-of-2.safetensors"));
  folder_.write("real.safetensors", file_of("b", {2.f}));  // a link inside is the user's business
  fs::create_symlink("real.safetensors", folder_.file("model-2-of-2.safetensors"));
  EXPECT_EQ(first_float(*open_ok(folder_.path()), "b"), 2.f);
  fs::remove(folder_.file("real.safetensors"));
  expect_refused(folder_.path(), "copy or download it again");  // a link to nothing
}

TEST_F(ShardedCheckpoint, TheIndexItselfMayNotBeALinkOut) {
  const TestFolder other;
  const std::string secret = other.write("secret.json", "{}");
  fs::create_symlink(secret, folder_.file("model.safetensors.index.json"));
  expect_refused(folder_.path(), "a link that leaves its folder");
}

TEST(Checkpoint, AHuggingFaceCacheIsReadThroughItsLinks) {
  const TestFolder folder;
  folder.write("blobs/0123", file_of("a", {5.f}));
  fs::create_directories(folder.file("snapshots/main"));
  fs::create_symlink("../../blobs/0123", folder.file("snapshots/main/model.safetensors"));
  EXPECT_EQ(first_float(*open_ok(folder.file("snapshots/main")), "a"), 5.f);
  folder.write("elsewhere/0123", file_of("a", {5.f}));
  fs::remove(folder.file("snapshots/main/model.safetensors"));
  fs::create_symlink("../../elsewhere/0123", folder.file("snapshots/main/model.safetensors"));
  expect_refused(folder.file("snapshots/main"), "a link that leaves its folder");
  // Named by the user and not by the folder, a link is followed.
  EXPECT_EQ(first_float(*open_ok(folder.file("snapshots/main/model.safetensors")), "a"), 5.f);
}

TEST_F(ShardedCheckpoint, EveryTensorIsThereExactlyOnce) {
  write_index(R"({"a":"model-1-of-2.safetensors","b":"model-1-of-2.safetensors"})");
  expect_refused(folder_.path(), "tensor 'b' is missing");
  write_index(R"({"a":"model-1-of-2.safetensors"})");  // b's file is not even opened
  EXPECT_EQ(open_ok(folder_.path())->tensors().size(), 1u);
  write_index(R"({"a":"model-2-of-2.safetensors","b":"model-1-of-2.safetensors"})");
  expect_refused(folder_.path(), "is here, but");
  write_index(R"({"c":"model-1-of-2.safetensors","b":"model-2-of-2.safetensors"})");
  expect_refused(folder_.path(), "does not list it");
  write_index(kGood);
  folder_.write("model-2-of-2.safetensors", file_of("a", {2.f}));
  expect_refused(folder_.path(), "every tensor may be there once");
}

TEST_F(ShardedCheckpoint, DamagedIndexes) {
  write_index(R"({"a":"model-1-of-2.safetensors","a":"model-2-of-2.safetensors"})");
  expect_refused(folder_.path(), "duplicate JSON key 'a'");
  write_index("{}");
  expect_refused(folder_.path(), "no 'weight_map'");
  write_index("[]");
  expect_refused(folder_.path(), "no 'weight_map'");
  write_index(R"({"a":1})");
  expect_refused(folder_.path(), "gives tensor 'a' no file name");
  write_index(R"({"a":"model-1-of-2.safetensors","b":"model-3-of-2.safetensors"})");
  expect_refused(folder_.path(), "model-3-of-2.safetensors: No such file");
  write_index(kGood);
  folder_.write("model-2-of-2.safetensors", "short");
  expect_refused(folder_.path(), "model-2-of-2.safetensors: 5 bytes are too short");
  fs::remove(folder_.file("model-2-of-2.safetensors"));
  fs::create_directory(folder_.file("model-2-of-2.safetensors"));
  expect_refused(folder_.path(), "not a regular file");
}

std::unique_ptr<Checkpoint> six_floats(const TestFolder& folder, const std::string& shape,
                                       const std::string& dtype = "F32", size_t pad_to = 8,
                                       size_t pad_extra = 0) {
  const size_t bytes = dtype == "F32" ? 24 : 6;
  std::string header = R"({"m.w":{"dtype":")" + dtype + R"(","shape":)" + shape +
                       R"(,"data_offsets":[0,)" + std::to_string(bytes) + "]}}";
  header.resize((header.size() + pad_to - 1) / pad_to * pad_to + pad_extra, ' ');
  const std::string data = floats({0, 1, 2, 3, 4, 5});
  return open_ok(
      folder.write("model.safetensors", safetensors_bytes(header, data.substr(0, bytes))));
}

TEST(Matrix, IsAViewOfTheMapping) {
  const TestFolder folder;
  const auto checkpoint = six_floats(folder, "[2,3]");
  const auto m = matrix(*checkpoint, "m.w", 2, 3);
  ASSERT_TRUE(m.ok()) << m.status().message();
  EXPECT_EQ(m->rows, 2);
  EXPECT_EQ(m->cols, 3);
  EXPECT_EQ(m->dtype, DType::kF32);
  EXPECT_EQ(m->data, checkpoint->bytes(*checkpoint->find("m.w"))->data());
  checkpoint->will_need(*m);
  EXPECT_EQ(m->row_range(1, 1).f32_row(0)[2], 5.f);
  const ConstTensorView right = m->col_range(1, 2);  // what a rank of a column split takes
  checkpoint->will_need(right);
  EXPECT_EQ(right.f32_row(0)[0], 1.f);
  EXPECT_EQ(right.f32_row(1)[1], 5.f);
  checkpoint->done_with(*checkpoint->find("m.w"));
  EXPECT_EQ(matrix(*checkpoint, "m.w", 2, 3)->f32_row(1)[2], 5.f);
}

TEST(Matrix, DimensionsOfOneDoNotCount) {
  const TestFolder folder;
  for (const char* shape : {"[6]", "[1,6]", "[1,1,6]", "[6,1]"}) {
    const auto checkpoint = six_floats(folder, shape);
    EXPECT_TRUE(matrix(*checkpoint, "m.w", 1, 6).ok()) << shape;
    EXPECT_FALSE(matrix(*checkpoint, "m.w", 2, 3).ok()) << shape;
  }
  const auto convolution = six_floats(folder, "[2,1,3]");
  EXPECT_TRUE(matrix(*convolution, "m.w", 2, 3).ok());
  EXPECT_FALSE(matrix(*convolution, "m.w", 3, 2).ok());
}

TEST(Matrix, AWrongShapeIsNamedWithBothShapes) {
  const TestFolder folder;
  const auto checkpoint = six_floats(folder, "[2,3]");
  const auto m = matrix(*checkpoint, "m.w", 3, 2);
  ASSERT_FALSE(m.ok());
  EXPECT_EQ(m.status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(m.status().message(),
            folder.file("model.safetensors") +
                ": tensor 'm.w' has shape [2, 3], expected [3, 2]; check that config and weights "
                "are of the same model");
  EXPECT_NE(matrix(*checkpoint, "m.w", 1, 6).status().message().find("expected [6]"),
            std::string::npos);
}

TEST(Matrix, AMissingTensorIsNamedWithItsNeighbour) {
  const TestFolder folder;
  const auto checkpoint = six_floats(folder, "[2,3]");
  const auto m = matrix(*checkpoint, "model.m.w", 2, 3);
  ASSERT_FALSE(m.ok());
  EXPECT_EQ(m.status().code(), StatusCode::kNotFound);
  EXPECT_NE(m.status().message().find("tensor 'model.m.w' is missing (it has 'm.w')"),
            std::string::npos)
      << m.status().message();
  EXPECT_EQ(matrix(*checkpoint, "other", 2, 3).status().message().find("(it has"),
            std::string::npos);
}

TEST(Matrix, OtherTypesAreListedAndNotReadAsWeights) {
  const TestFolder folder;
  const auto checkpoint = six_floats(folder, "[2,3]", "F8_E4M3");
  EXPECT_EQ(checkpoint->tensors()[0].dtype_name, "F8_E4M3");
  EXPECT_EQ(checkpoint->bytes(checkpoint->tensors()[0])->size(), 6u);
  const auto m = matrix(*checkpoint, "m.w", 2, 3);
  ASSERT_FALSE(m.ok());
  EXPECT_EQ(m.status().code(), StatusCode::kUnimplemented);
  EXPECT_NE(m.status().message().find("dtype F8_E4M3"), std::string::npos);
  EXPECT_EQ(matrix(*six_floats(folder, "[2,3]", "I8"), "m.w", 2, 3).status().code(),
            StatusCode::kUnimplemented);
}

// A writer that does not pad its header leaves the data on any address; what is read is aligned.
TEST(Matrix, UnalignedTensorsAreCopied) {
  const TestFolder folder;
  for (size_t shift = 1; shift < 8; ++shift) {
    const auto checkpoint = six_floats(folder, "[2,3]", "F32", 8, shift);
    const auto m = matrix(*checkpoint, "m.w", 2, 3);
    ASSERT_TRUE(m.ok());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(m->data) % 4, 0u) << shift;
    for (int i = 0; i < 6; ++i)
      EXPECT_EQ(static_cast<const float*>(m->data)[i], static_cast<float>(i)) << shift;
    EXPECT_EQ(matrix(*checkpoint, "m.w", 2, 3)->data, m->data);  // copied once
    checkpoint->done_with(*checkpoint->find("m.w"));
    EXPECT_EQ(matrix(*checkpoint, "m.w", 2, 3)->f32_row(0)[1], 1.f);
  }
}

}  // namespace
}  // namespace trireme
