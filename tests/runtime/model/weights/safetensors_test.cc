// Every rule of the safetensors header: the vectors of the reference reader's own tests under their
// names there (safetensors crate, src/tensor.rs), then the rules it has no vector for.
#include "runtime/model/weights/safetensors.h"

#include <string>

#include <gtest/gtest.h>

#include "tests/runtime/model/weights/safetensors_bytes.h"

namespace trireme {
namespace {

const std::string kGoodHeader = R"({"test":{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]}})";
const std::string kZeros16(16, '\0');

Result<SafetensorsFile> parse(const std::string& file) { return parse_safetensors(as_bytes(file)); }

// The header alone decides: `data_bytes` zero bytes stand behind it.
void expect_refused(const std::string& header, size_t data_bytes, const std::string& why) {
  const Result<SafetensorsFile> file =
      parse(safetensors_bytes(header, std::string(data_bytes, '\0')));
  ASSERT_FALSE(file.ok()) << header;
  EXPECT_NE(file.status().message().find(why), std::string::npos)
      << header << "\n  said: " << file.status().message() << "\n  not: " << why;
  EXPECT_EQ(file.status().code(), StatusCode::kDataLoss);
}

void expect_read(const std::string& header, size_t data_bytes, size_t tensors) {
  const Result<SafetensorsFile> file =
      parse(safetensors_bytes(header, std::string(data_bytes, '\0')));
  ASSERT_TRUE(file.ok()) << header << ": " << file.status().message();
  EXPECT_EQ(file->tensors.size(), tensors) << header;
}

std::string one_tensor(const std::string& dtype, const std::string& shape,
                       const std::string& offsets) {
  return R"({"test":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" +
         offsets + "}}";
}

TEST(Safetensors, ReadsWhatTheReferenceReads) {
  const Result<SafetensorsFile> file = parse(safetensors_bytes(kGoodHeader, kZeros16));
  ASSERT_TRUE(file.ok()) << file.status().message();
  ASSERT_EQ(file->tensors.size(), 1u);
  EXPECT_EQ(file->tensors[0].info.name, "test");
  EXPECT_EQ(file->tensors[0].info.dtype_name, "I32");
  EXPECT_EQ(file->tensors[0].info.dtype, DType::kI32);
  EXPECT_EQ(file->tensors[0].info.shape, (std::vector<int64_t>{2, 2}));
  EXPECT_EQ(file->tensors[0].info.bytes, 16u);
  EXPECT_EQ(file->tensors[0].offset, 8 + kGoodHeader.size());
}

TEST(Safetensors, JsonAttack) {  // ten tensors claim the same 16 bytes
  std::string header = "{";
  for (int i = 0; i < 10; ++i) {
    header += (i == 0 ? "" : ",") + std::string("\"weight_") + std::to_string(i) +
              R"(":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]})";
  }
  expect_refused(header + "}", 16, "begins at byte 0, inside the tensor before it");
}

TEST(Safetensors, MetadataIncompleteBuffer) {
  const auto extra =
      parse(safetensors_bytes(kGoodHeader, kZeros16 + "extra_bogus_data_for_polyglot_file"));
  ASSERT_FALSE(extra.ok());
  EXPECT_NE(extra.status().message().find("34 bytes behind the last tensor"), std::string::npos);
  const auto missing = parse(safetensors_bytes(kGoodHeader, kZeros16.substr(2)));
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.status().message().find("need 16 bytes and the file has only 14"),
            std::string::npos);
}

TEST(Safetensors, HeaderTooLarge) {
  const auto file = parse(safetensors_bytes(kGoodHeader, kZeros16, 0xffffff000000003cull));
  ASSERT_FALSE(file.ok());
  EXPECT_NE(file.status().message().find("the format allows 100000000"), std::string::npos);
  // The limit is exact, whatever stands behind it: one more is too large, the limit is cut short.
  const auto over = parse(safetensors_bytes("{", "", 100'000'001));
  EXPECT_NE(over.status().message().find("allows"), std::string::npos);
  const auto at_limit = parse(safetensors_bytes("{", "", 100'000'000));
  EXPECT_NE(at_limit.status().message().find("cut short"), std::string::npos);
}

TEST(Safetensors, HeaderTooSmall) {
  for (const size_t size : {0, 1, 7}) {
    const auto file = parse(std::string(size, '\0'));
    ASSERT_FALSE(file.ok());
    EXPECT_NE(file.status().message().find("too short"), std::string::npos) << size;
  }
}

TEST(Safetensors, InvalidHeaderLength) {
  const auto file = parse(safetensors_bytes("", "", 0x3c));
  ASSERT_FALSE(file.ok());
  EXPECT_NE(file.status().message().find("should have 60 bytes and the file has only 0"),
            std::string::npos);
}

TEST(Safetensors, InvalidHeaderNonUtf8) {
  expect_refused("\xff", 0, "does not start with '{'");
  expect_refused("{\"a\xff\":{\"dtype\":\"I32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4,
                 "damaged");
}

TEST(Safetensors, InvalidHeaderNotJson) {
  expect_refused("{", 0, "not valid JSON");
  expect_refused("{}x", 0, "extra text");
  expect_refused("{\"test\":}", 0, "not valid JSON");
}

TEST(Safetensors, WhitespacePaddedHeader) { expect_read(kGoodHeader + "    \n\t ", 16, 1); }

TEST(Safetensors, WhitespaceLeadingHeader) { expect_refused(" " + kGoodHeader, 16, "'{'"); }

TEST(Safetensors, ZeroSizedTensor) {
  expect_read(one_tensor("I32", "[2,0]", "[0, 0]"), 0, 1);
  expect_read(R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[4,4]},
                 "b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
                 "c":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})",
              4, 3);
}

TEST(Safetensors, InvalidInfo) {  // the shape and the offsets disagree
  expect_refused(one_tensor("I32", "[2,2]", "[0, 4]"), 4, "which is 16 bytes");
  expect_refused(one_tensor("I32", "[2,2]", "[0, 32]"), 32, "which is 16 bytes");
}

TEST(Safetensors, ValidationOverflow) {
  expect_refused(one_tensor("I32", "[2,18446744073709551614]", "[0, 16]"), 16, "whole number");
  expect_refused(one_tensor("I32", "[2,9223372036854775807]", "[0, 16]"), 16, "overflows");
  expect_refused(one_tensor("I32", "[4294967296,4294967296,0]", "[0, 0]"), 0, "overflows");
  expect_read(one_tensor("I32", "[4611686018427387904,0]", "[0, 0]"), 0, 1);
}

TEST(Safetensors, ScalarsAndAnEmptyFileAreRead) {
  expect_read(one_tensor("I32", "[]", "[0,4]"), 4, 1);
  expect_read("{}      ", 0, 0);
  expect_read(R"({"__metadata__":null})", 0, 0);
}

TEST(Safetensors, HolesAndOverlapsAreRefused) {
  const auto two = [](const std::string& first, const std::string& second) {
    return R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + first +
           R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}";
  };
  expect_read(two("[0,4]", "[4,8]"), 8, 2);
  expect_read(two("[4,8]", "[0,4]"), 8, 2);
  expect_refused(two("[0,4]", "[5,9]"), 9, "after a hole");
  expect_refused(two("[1,5]", "[5,9]"), 9, "after a hole");
  expect_refused(two("[0,4]", "[3,7]"), 7, "inside the tensor before it");
  expect_refused(two("[0,4]", "[8,4]"), 8, "ends at 4 before it begins at 8");
  expect_refused(two("[0,4]", "[9223372036854775803,9223372036854775807]"), 8, "after a hole");
}

TEST(Safetensors, DuplicateKeysAreRefused) {
  const std::string a = R"("a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  expect_refused("{" + a + "," + a + "}", 4, "duplicate JSON key 'a'");
  expect_refused(R"({"a":{"dtype":"U8","dtype":"I8","shape":[4],"data_offsets":[0,4]}})", 4,
                 "duplicate JSON key 'dtype'");
}

TEST(Safetensors, EveryDtypeHasItsSize) {
  struct Case {
    const char* name;
    int bits;
    bool computed_with;
  };
  const Case cases[] = {{"BOOL", 8, false},        {"F4", 4, false},          {"F6_E2M3", 6, false},
                        {"F6_E3M2", 6, false},     {"U8", 8, false},          {"I8", 8, true},
                        {"F8_E5M2", 8, false},     {"F8_E4M3", 8, false},     {"F8_E8M0", 8, false},
                        {"F8_E4M3FNUZ", 8, false}, {"F8_E5M2FNUZ", 8, false}, {"I16", 16, false},
                        {"U16", 16, false},        {"F16", 16, true},         {"BF16", 16, true},
                        {"I32", 32, true},         {"U32", 32, false},        {"F32", 32, true},
                        {"C64", 64, false},        {"F64", 64, false},        {"I64", 64, true},
                        {"U64", 64, false}};
  for (const Case& c : cases) {
    const size_t bytes = static_cast<size_t>(c.bits);  // eight elements
    const auto header = one_tensor(c.name, "[8]", "[0," + std::to_string(bytes) + "]");
    const auto file = parse(safetensors_bytes(header, std::string(bytes, '\0')));
    ASSERT_TRUE(file.ok()) << c.name << ": " << file.status().message();
    EXPECT_EQ(file->tensors[0].info.dtype_name, c.name);
    EXPECT_EQ(file->tensors[0].info.dtype.has_value(), c.computed_with) << c.name;
    expect_refused(one_tensor(c.name, "[8]", "[0," + std::to_string(bytes + 1) + "]"), bytes + 1,
                   "bytes");
  }
  expect_refused(one_tensor("F4", "[3]", "[0,2]"), 2, "no whole number of bytes");
  expect_refused(one_tensor("F6_E2M3", "[2]", "[0,2]"), 2, "no whole number of bytes");
  expect_refused(one_tensor("f32", "[1]", "[0,4]"), 4, "the format does not know");
}

TEST(Safetensors, EveryFieldMustBeThereAndOfItsKind) {
  expect_refused(R"({"t":7})", 0, "not described by an object");
  expect_refused(R"({"t":{"shape":[1],"data_offsets":[0,4]}})", 4, "no 'dtype'");
  expect_refused(R"({"t":{"dtype":3,"shape":[1],"data_offsets":[0,4]}})", 4, "no 'dtype'");
  expect_refused(R"({"t":{"dtype":"F32","data_offsets":[0,4]}})", 4, "no 'shape'");
  expect_refused(R"({"t":{"dtype":"F32","shape":[1]}})", 4, "no 'data_offsets'");
  expect_refused(one_tensor("F32", "[-1]", "[0,4]"), 4, "whole number");
  expect_refused(one_tensor("F32", "[1.0]", "[0,4]"), 4, "whole number");
  expect_refused(one_tensor("F32", "[1]", "[0]"), 4, "no 'data_offsets'");
  expect_refused(one_tensor("F32", "[1]", "[0,4,8]"), 4, "no 'data_offsets'");
  expect_refused(one_tensor("F32", "[1]", "[-4,0]"), 4, "no 'data_offsets'");
  expect_refused(R"({"__metadata__":{"a":1}})", 0, "not a string");
  expect_refused(R"({"__metadata__":[]})", 0, "not an object of strings");
  std::string ones = "1";
  for (int i = 0; i < 64; ++i) ones += ",1";
  expect_refused(one_tensor("F32", "[" + ones + "]", "[0,4]"), 4, "65 dimensions");
}

TEST(Safetensors, DeepNestingIsRefusedEarly) {
  std::string header = "{\"a\":";
  for (int i = 0; i < 100'000; ++i) header += "[";
  expect_refused(header, 0, "not valid JSON");
}

TEST(Safetensors, MetadataIsKept) {
  const auto file = parse(safetensors_bytes(R"({"__metadata__":{"format":"pt"}})", ""));
  ASSERT_TRUE(file.ok());
  ASSERT_EQ(file->metadata.size(), 1u);
  EXPECT_EQ(file->metadata[0].first, "format");
  EXPECT_EQ(file->metadata[0].second, "pt");
}

TEST(Safetensors, AGitLfsPointerIsNamedAsSuch) {
  const auto file = parse("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
  ASSERT_FALSE(file.ok());
  EXPECT_NE(file.status().message().find("git lfs pull"), std::string::npos);
}

TEST(Safetensors, NamesInErrorsCannotDriveATerminal) {
  expect_refused(one_tensor("\\u001b[2J", "[1]", "[0,4]"), 4, "\\x1b[2J");
  EXPECT_EQ(printable(std::string("a\nb\0c", 5)), "a\\x0ab\\x00c");
  EXPECT_EQ(printable(std::string(1000, 'x')).size(), 163u);
}

// Every prefix of a good file is refused, and nothing is read behind its end (ASan sees it).
TEST(Safetensors, EveryTruncationIsRefused) {
  const std::string whole = safetensors_bytes(kGoodHeader, kZeros16);
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string cut = whole.substr(0, size);
    EXPECT_FALSE(parse(cut).ok()) << size;
  }
}

}  // namespace
}  // namespace trireme
