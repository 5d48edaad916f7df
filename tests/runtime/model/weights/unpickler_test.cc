// The restricted unpickler: what torch.save writes is read; a pickle that wants anything else is
// refused by name; no pickle crashes it or makes it use memory without limit.
#include "runtime/model/weights/unpickler.h"

#include <string>

#include <gtest/gtest.h>

#include "tests/runtime/model/weights/archive_bytes.h"
#include "tests/runtime/model/weights/safetensors_bytes.h"

namespace trireme {
namespace {

using pickle::counts;
using pickle::dict;
using pickle::global;
using pickle::integer;
using pickle::ordered_dict;
using pickle::proto;
using pickle::storage;
using pickle::tensor;
using pickle::text;
using pickle::tuple;
using namespace std::string_literals;  // bytes with zeros among them

Result<std::vector<PickledTensor>> load(const std::string& bytes, const PickleLimits& limits = {}) {
  return unpickle_tensors(as_bytes(bytes), limits);
}

void expect_refused(const std::string& bytes, const std::string& why) {
  const auto tensors = load(bytes);
  ASSERT_FALSE(tensors.ok()) << why;
  EXPECT_NE(tensors.status().message().find(why), std::string::npos)
      << "said: " << tensors.status().message() << "\n not: " << why;
}

const std::string kTensor = tensor(storage("BFloat16Storage", "0", 6), 0, {2, 3}, {3, 1});

TEST(Unpickler, ReadsADictOfTensors) {
  const auto tensors = load(dict(
      {{"emb.weight", kTensor}, {"head", tensor(storage("FloatStorage", "7", 10), 4, {3}, {2})}}));
  ASSERT_TRUE(tensors.ok()) << tensors.status().message();
  ASSERT_EQ(tensors->size(), 2u);
  const PickledTensor& emb = (*tensors)[0];
  EXPECT_EQ(emb.info.name, "emb.weight");
  EXPECT_EQ(emb.info.dtype_name, "BF16");
  EXPECT_EQ(emb.info.dtype, DType::kBF16);
  EXPECT_EQ(emb.info.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(emb.info.bytes, 12u);
  EXPECT_EQ(emb.storage_key, "0");
  EXPECT_EQ(emb.storage_elements, 6);
  EXPECT_TRUE(emb.contiguous());
  const PickledTensor& head = (*tensors)[1];
  EXPECT_EQ(head.storage_key, "7");
  EXPECT_EQ(head.offset, 4);
  EXPECT_EQ(head.stride, (std::vector<int64_t>{2}));
  EXPECT_FALSE(head.contiguous());
}

TEST(Unpickler, ReadsAStateDictWithItsModuleVersions) {
  const std::string metadata = "}" + text("_metadata") + ordered_dict() + "(" + text("") + "}" +
                               text("version") + "K\1s" + "u" + "s";
  const auto tensors =
      load(proto() + ordered_dict() + "(" + text("w") + kTensor + "u" + metadata + "b.");
  ASSERT_TRUE(tensors.ok()) << tensors.status().message();
  EXPECT_EQ(tensors->size(), 1u);
}

TEST(Unpickler, ReadsParametersAndEveryStorageType) {
  const std::string parameter =
      global("torch._utils", "_rebuild_parameter") + tuple({kTensor, "\x88", ordered_dict()}) + "R";
  ASSERT_TRUE(load(dict({{"w", parameter}})).ok());
  const std::pair<const char*, const char*> types[] = {
      {"FloatStorage", "F32"},  {"HalfStorage", "F16"}, {"BFloat16Storage", "BF16"},
      {"DoubleStorage", "F64"}, {"LongStorage", "I64"}, {"IntStorage", "I32"},
      {"ShortStorage", "I16"},  {"CharStorage", "I8"},  {"ByteStorage", "U8"},
      {"BoolStorage", "BOOL"}};
  for (const auto& [type, name] : types) {
    const auto tensors = load(dict({{"w", tensor(storage(type, "0", 2), 0, {2}, {1})}}));
    ASSERT_TRUE(tensors.ok()) << type;
    EXPECT_EQ((*tensors)[0].info.dtype_name, name);
  }
}

TEST(Unpickler, NewerProtocolsSayTheSame) {  // short texts, STACK_GLOBAL, MEMOIZE, a frame
  const auto short_text = [](std::string s) {
    return std::string("\x8c") + static_cast<char>(s.size()) + s;
  };
  const auto stack_global = [&](const std::string& module, const std::string& name) {
    return short_text(module) + short_text(name) + "\x93\x94";
  };
  const auto persistent = "(" + short_text("storage") + stack_global("torch", "HalfStorage") +
                          short_text("0") + short_text("cpu") + "M\4\0"s + "tQ";
  const auto frame = "\x95"s + le<uint64_t>(1000);
  const auto tensors = load("\x80\x04"s + frame + "}\x94" + short_text("w") + "\x94" +
                            stack_global("torch._utils", "_rebuild_tensor_v2") + "(" + persistent +
                            "K\0"s + "K\2K\2\x86" + "K\2K\1\x86" + "\x89" + "}" + "tRs.");
  ASSERT_TRUE(tensors.ok()) << tensors.status().message();
  EXPECT_EQ((*tensors)[0].info.dtype, DType::kF16);
}

// What makes pickles dangerous: each of these runs code in Python's loader.
TEST(Unpickler, PicklesThatCallCodeAreRefusedByName) {
  expect_refused(global("os", "system") + tuple({text("true")}) + "R.",
                 "wants to call 'os.system'");
  expect_refused(global("posix", "system") + tuple({text("true")}) + "R.", "'posix.system'");
  expect_refused(dict({{"w", global("builtins", "eval") + tuple({text("1")}) + "R"}}),
                 "'builtins.eval'");
  expect_refused("cnumpy.core.multiarray\n_reconstruct\n.", "'numpy.core.multiarray._reconstruct'");
  expect_refused("(ios\nsystem\n.", "'os.system'");            // INST
  expect_refused("\x8c\2os\x8c\6system\x93.", "'os.system'");  // STACK_GLOBAL
  expect_refused("ctorch\nload\n.", "'torch.load'");
  expect_refused("ctorch._utils\n_rebuild_tensor_v3\n.", "_rebuild_tensor_v3");
  expect_refused("ctorch.storage\nFloatStorage\n.", "'torch.storage.FloatStorage'");
  expect_refused("c__builtin__\nget\x1b[2Jattr\n.", "get\\x1b[2Jattr");
  expect_refused(global("collections", "OrderedDict") + ")\x81.", "make an object");  // NEWOBJ
  expect_refused("(" + global("collections", "OrderedDict") + "o.", "make an object");
  expect_refused("(icollections\nOrderedDict\n.", "make an object");
  expect_refused("\x82\1.", "instruction 0x82");     // EXT1: a number for a global
  expect_refused("Pkey\n.", "instruction 0x50");     // PERSID
  expect_refused("S'text'\n.", "instruction 0x53");  // protocol 0
  expect_refused(global("torch", "FloatStorage") + tuple({integer(4)}) + "R.", "make a storage");
}

// BUILD writes into an object's attributes.
TEST(Unpickler, BuildIsForOrderedDictsOnly) {
  expect_refused("}}b.", "adds to something that is no list or dict");
  expect_refused(dict({{"w", kTensor + "}b"}}), "adds to something");
  expect_refused(ordered_dict() + "Nb.", "state that is no dict");
}

TEST(Unpickler, StackAndMemoMistakes) {
  expect_refused("", "cut short");
  expect_refused(".", "takes a value that is not there");
  expect_refused("}", "cut short");
  expect_refused("t.", "closes a group that it has not opened");
  expect_refused("}u.", "closes a group");
  expect_refused("}(Nu.", "a key without a value");
  expect_refused("(}s.", "takes a value that is not there");  // not from below the mark
  expect_refused("](}a.", "adds to something");
  expect_refused("NNNs.", "adds to something");
  expect_refused("]Na]NNs.", "adds to something");
  expect_refused("h\1.", "has not stored");
  expect_refused("j\1\0\0\0."s, "has not stored");
  expect_refused("q\1.", "stores a value that is not there");
  expect_refused("\x86.", "takes a value that is not there");
  expect_refused("0.", "takes a value that is not there");
  expect_refused("R.", "takes a value that is not there");
  expect_refused("NNR.", "calls something that is no function");
  expect_refused("Q.", "takes a value that is not there");
  expect_refused("NQ.", "refers to something that is no storage");
  expect_refused("\x80\x09.", "protocol 9");
  expect_refused("X\xff\xff\xff\xffx", "cut short");
  expect_refused(
      "\x8a\x09"
      "123456789.",
      "more than 64 bits");
  expect_refused("cos", "cut short");
  expect_refused("G1234", "cut short");
}

TEST(Unpickler, TheResultMustBeADictOfTensors) {
  expect_refused("N.", "holds None and not a dict");
  expect_refused(kTensor + ".", "holds a tensor and not a dict");
  expect_refused(dict({{"epoch", integer(3)}}), "'epoch' is a number and not a tensor");
  expect_refused(dict({{"model", "}"}}), "'model' is a dict and not a tensor");
  expect_refused("}K\1K\2s.", "a number as the name of a tensor");
  expect_refused(dict({{"w", kTensor}, {"w", kTensor}}), "tensor 'w' is there twice");
  expect_refused(dict({{"w\xff", kTensor}}), "not UTF-8");
  expect_refused(dict({{"\xed\xa0\x80", kTensor}}), "not UTF-8");  // a surrogate
  expect_refused(dict({{"\xc0\xae", kTensor}}), "not UTF-8");      // an overlong dot
  EXPECT_TRUE(load(dict({{"\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80", kTensor}})).ok());
}

TEST(Unpickler, TensorsStayInsideTheirStorage) {
  const std::string six = storage("FloatStorage", "0", 6);
  const auto with = [&](int32_t offset, std::vector<int32_t> shape, std::vector<int32_t> stride) {
    return dict({{"w", tensor(six, offset, shape, stride)}});
  };
  EXPECT_TRUE(load(with(0, {6}, {1})).ok());
  EXPECT_TRUE(load(with(5, {}, {})).ok());
  EXPECT_TRUE(load(with(6, {0}, {1})).ok());
  EXPECT_TRUE(load(with(0, {2, 3}, {1, 2})).ok());
  EXPECT_TRUE(load(with(0, {1, 6}, {2147483647, 1})).ok());  // the stride of one row is never used
  expect_refused(with(0, {7}, {1}), "reaches out of its storage");
  expect_refused(with(1, {6}, {1}), "reaches out of its storage");
  expect_refused(with(6, {}, {}), "reaches out of its storage");
  expect_refused(with(7, {0}, {1}), "reaches out of its storage");
  expect_refused(with(0, {2, 2}, {5, 1}), "reaches out of its storage");
  expect_refused(with(0, {2, 2}, {2147483647, 2147483647}), "reaches out of its storage");
  expect_refused(with(0, {7}, {0}), "repeats its storage");
  expect_refused(with(0, {100, 100}, {0, 0}), "repeats its storage");
  expect_refused(with(0, {2147483647, 2147483647, 2147483647}, {0, 0, 0}), "overflows");
  expect_refused(with(0, {6}, {}), "in a way torch does not");
  expect_refused(with(0, {-1}, {1}), "in a way torch does not");
  expect_refused(with(0, {1}, {-1}), "in a way torch does not");
  expect_refused(with(-1, {1}, {1}), "in a way torch does not");
  const std::vector<int32_t> ones(65, 1);
  expect_refused(with(0, ones, ones), "in a way torch does not");
}

TEST(Unpickler, WrongDescriptions) {
  const std::string rebuild = global("torch._utils", "_rebuild_tensor_v2");
  expect_refused(rebuild + ")R.", "in a way torch does not");
  expect_refused(rebuild + tuple({"N", "N", "N", "N", "N", "N"}) + "R.", "in a way torch does not");
  expect_refused(global("torch._utils", "_rebuild_parameter") + tuple({"N", "N", "N"}) + "R.",
                 "something that is no tensor");
  expect_refused(global("collections", "OrderedDict") + tuple({"]"}) + "R.",
                 "OrderedDict in a way");
  const auto persistent = [](const std::vector<std::string>& parts) { return tuple(parts) + "Q."; };
  const std::string type = global("torch", "FloatStorage");
  expect_refused(persistent({text("module"), type, text("0"), text("cpu"), integer(1)}),
                 "no storage");
  expect_refused(persistent({text("storage"), text("x"), text("0"), text("cpu"), integer(1)}),
                 "no storage");
  expect_refused(persistent({text("storage"), type, text("0"), text("cpu"), integer(-1)}),
                 "no storage");
  expect_refused(persistent({text("storage"), type, text("0"), text("cpu")}), "no storage");
  expect_refused(
      persistent({text("storage"), type, text(std::string(65, '0')), text("cpu"), integer(1)}),
      "no storage");
  expect_refused(dict({{"a", tensor(storage("FloatStorage", "0", 6), 0, {1}, {1})},
                       {"b", tensor(storage("LongStorage", "0", 6), 0, {1}, {1})}}),
                 "share a storage and disagree");
}

// A pickle may refer to what it has made, so that a few bytes mean exponentially many items.
// Nothing is ever copied out, nested or printed: these end at once.
TEST(Unpickler, BombsStaySmall) {
  std::string laughs = proto() + "]q\0"s;
  for (char i = 0; i < 100; ++i) {
    laughs += "(";
    for (int k = 0; k < 100; ++k) laughs += std::string("h") + i;
    laughs += "t" + std::string("q") + static_cast<char>(i + 1);
  }
  expect_refused(laughs + ".", "holds a list and not a dict");
  expect_refused(std::string(1'000'000, ']') + std::string(1'000'000, 'a') + ".", "");  // deep
  expect_refused("]q\1" + std::string("h\1a") + ".", "holds a list");                   // in itself
  expect_refused(std::string(3'000'000, ']'), "too many objects");
  expect_refused(std::string(3'000'000, '('), "too many marks");
  expect_refused("N" + std::string(3'000'000, '\x94'), "stores too many values");
  expect_refused(std::string((4 << 20) + 1, '('), "4194304 is the most");
  PickleLimits limits;
  limits.tensors_max = 1;
  EXPECT_TRUE(load(dict({{"a", kTensor}}), limits).ok());
  EXPECT_FALSE(load(dict({{"a", kTensor}, {"b", kTensor}}), limits).ok());
}

TEST(Unpickler, EveryTruncationIsRefused) {
  const std::string whole = dict({{"emb.weight", kTensor}});
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string cut = whole.substr(0, size);
    EXPECT_FALSE(load(cut).ok()) << size;
  }
}

}  // namespace
}  // namespace trireme
