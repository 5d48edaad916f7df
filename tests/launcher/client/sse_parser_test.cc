// Events come out the same wherever the bytes are cut.
#include "launcher/client/sse_parser.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace trireme {
namespace {

std::vector<std::string> parse(const std::vector<std::string>& pieces) {
  SseParser parser;
  std::vector<std::string> events;
  for (const std::string& piece : pieces) {
    const Status s = parser.feed(piece, [&](std::string_view data) {
      events.emplace_back(data);
      return true;
    });
    EXPECT_TRUE(s.ok()) << s.message();
  }
  return events;
}

const std::vector<std::string> kExpected = {"{\"a\":1}", "two\nlines", "", "[DONE]"};

TEST(SseParser, EveryCutAndLineEndGivesTheSameEvents) {
  for (const std::string end : {"\n", "\r\n", "\r"}) {
    std::string text;
    for (const char* line :
         {": a comment", "data: {\"a\":1}", "", "", "event: x", "data:two", "data: lines", "id: 3",
          "", "data", "", "datas: no", "", "data: [DONE]", ""})
      text += line + end;
    EXPECT_EQ(parse({text}), kExpected);
    for (size_t first = 0; first <= text.size(); ++first) {
      for (size_t second = first; second <= text.size(); ++second)
        ASSERT_EQ(
            parse({text.substr(0, first), text.substr(first, second - first), text.substr(second)}),
            kExpected)
            << first << " " << second;
    }
  }
}

TEST(SseParser, AnEventWithoutItsEmptyLineIsNone) {
  SseParser parser;
  int events = 0;
  const auto count = [&](std::string_view) { return ++events > 0; };
  ASSERT_TRUE(parser.feed("data: x\n", count).ok());
  EXPECT_EQ(events, 0);
  EXPECT_TRUE(parser.inside_event());
  ASSERT_TRUE(parser.feed("\n", count).ok());
  EXPECT_EQ(events, 1);
  EXPECT_FALSE(parser.inside_event());
}

TEST(SseParser, StopsWhereTheReaderDoes) {
  SseParser parser;
  int events = 0;
  const Status s = parser.feed("data: 1\n\ndata: 2\n\n", [&](std::string_view) {
    ++events;
    return false;
  });
  EXPECT_EQ(s.code(), StatusCode::kCancelled);
  EXPECT_EQ(events, 1);
}

TEST(SseParser, MemoryIsBounded) {
  const auto go_on = [](std::string_view) { return true; };
  SseParser line(100), lines(100);
  EXPECT_EQ(line.feed("data: " + std::string(100, 'x'), go_on).code(), StatusCode::kDataLoss);
  Status s;
  for (int i = 0; i < 20 && s.ok(); ++i) s = lines.feed("data: 1234567\n", go_on);
  EXPECT_EQ(s.code(), StatusCode::kDataLoss);
}

}  // namespace
}  // namespace trireme
