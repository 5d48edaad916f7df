// One value at a time: what each type takes, what it refuses and what it says then.
#include "runtime/config/value_reader.h"

#include <limits>

#include <gtest/gtest.h>

namespace trireme {
namespace {

ConfigNode node(std::string_view yaml) {
  Result<ConfigNode> root = parse_yaml(yaml, "f");
  EXPECT_TRUE(root.ok()) << root.status().message();
  return root.ok() ? root.take() : ConfigNode{};
}

std::string message(const Status& status) { return status.ok() ? "" : status.message(); }

TEST(ValueReader, Integers) {
  EXPECT_EQ(*read_integer(node("0"), 0, 10), 0);
  EXPECT_EQ(*read_integer(node("-3"), -5, 10), -3);
  EXPECT_EQ(*read_integer(node("10"), 0, 10), 10);
  for (const char* text : {"11", "-1", "1.0", "1e3", "0x10", "0o10", "1_000", "+1", "'5'", "true",
                           "[1]", "{a: 1}", "~", "99999999999999999999", "-", "1 2"}) {
    EXPECT_FALSE(read_integer(node(text), 0, 10).ok()) << text;
  }
  EXPECT_EQ(message(read_integer(node("010"), 0, 10).status()),
            "f:1:1: '010' has a leading zero, which some readers take for octal: write 10");
  EXPECT_EQ(message(read_integer(node("00"), 0, 10).status()),
            "f:1:1: '00' has a leading zero, which some readers take for octal: write 0");
  EXPECT_EQ(message(read_integer(node("'5'"), 0, 10).status()),
            "f:1:1: expected an integer, found the string '5'");
  EXPECT_EQ(message(read_integer(node("12"), 0, 10).status()),
            "f:1:1: expected an integer from 0 to 10, found '12'");
}

TEST(ValueReader, Unsigned) {
  EXPECT_EQ(*read_unsigned(node("18446744073709551615")), std::numeric_limits<uint64_t>::max());
  EXPECT_FALSE(read_unsigned(node("18446744073709551616")).ok());
  EXPECT_FALSE(read_unsigned(node("-1")).ok());
}

TEST(ValueReader, Numbers) {
  EXPECT_DOUBLE_EQ(*read_number(node("0.7")), 0.7);
  EXPECT_DOUBLE_EQ(*read_number(node("-2")), -2);
  EXPECT_DOUBLE_EQ(*read_number(node("1e-3")), 1e-3);
  EXPECT_DOUBLE_EQ(*read_number(node(".5")), 0.5);
  for (const char* text : {".inf", "-.inf", ".nan", "inf", "nan", "1e999", "'0.7'", "0.7x", "07",
                           "00.5", "true", "0x1p3", "+1", "1,5", "~", "[0.7]"}) {
    EXPECT_FALSE(read_number(node(text)).ok()) << text;
  }
}

TEST(ValueReader, Booleans) {
  EXPECT_TRUE(*read_boolean(node("true")));
  EXPECT_FALSE(*read_boolean(node("false")));
  for (const char* text : {"yes", "no", "on", "off", "True", "TRUE", "1", "'true'", "~"})
    EXPECT_FALSE(read_boolean(node(text)).ok()) << text;
  EXPECT_EQ(message(read_boolean(node("yes")).status()),
            "f:1:1: expected true or false, found 'yes'");
}

TEST(ValueReader, StringsThatLookLikeSomethingElseNeedQuotes) {
  EXPECT_EQ(*read_string(node("Once upon a time")), "Once upon a time");
  EXPECT_EQ(*read_string(node("configs/models/gqa")), "configs/models/gqa");
  EXPECT_EQ(*read_string(node("'10'")), "10");
  EXPECT_EQ(*read_string(node("\"yes\"")), "yes");
  EXPECT_EQ(*read_string(node("''")), "");
  EXPECT_EQ(*read_string(node("3 apples")), "3 apples");
  EXPECT_EQ(*read_string(node("nothing")), "nothing");
  for (const char* text : {"10", "010", "-1.5", "1e5", "0x1F", "1_000", "12:30:45", "2001-01-01",
                           ".5", ".inf", "yes", "No", "OFF", "true", "y"}) {
    EXPECT_FALSE(read_string(node(text)).ok()) << text;
  }
  EXPECT_EQ(message(read_string(node("no")).status()),
            "f:1:1: expected a string, found 'no': put it in quotes");
  EXPECT_EQ(message(read_string(node("[a]")).status()), "f:1:1: expected a string, found a list");
}

TEST(ValueReader, TheCommandLineGivesWhatIsAsked) {
  const ConfigNode ten = ConfigNode::argument("10", "--x");
  EXPECT_EQ(*read_integer(ten, 0, 10), 10);
  EXPECT_EQ(*read_string(ten), "10");
  EXPECT_DOUBLE_EQ(*read_number(ten), 10);
  EXPECT_EQ(message(read_integer(ConfigNode::argument("ten", "--x"), 0, 10).status()),
            "--x: expected an integer, found 'ten'");
}

TEST(ValueReader, Sizes) {
  EXPECT_EQ(*read_size(node("1KiB")), 1024u);
  EXPECT_EQ(message(read_size(node("1024")).status()),
            "f:1:1: '1024' is not a size: it needs a unit, as in 512MiB or 1.5GiB");
  EXPECT_FALSE(read_size(node("[1KiB]")).ok());
}

}  // namespace
}  // namespace trireme
