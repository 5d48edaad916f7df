// A stop string is found wherever the text is cut, no byte of it goes out before it is known, and
// nothing is held back that could not begin one.
#include "runtime/text/stop_strings.h"

#include <optional>
#include <random>

#include <gtest/gtest.h>

namespace trireme {
namespace {

TEST(StopStrings, HoldsBackTheLongestEndThatMayBeginAStop) {
  StopStrings stops({"\nUser:", "END"});
  EXPECT_EQ(stops.push("Hello\n"), "Hello");
  EXPECT_EQ(stops.push("Us"), "");
  EXPECT_EQ(stops.push("age EN"), "\nUsage ");
  EXPECT_EQ(stops.push("E"), "EN");
  EXPECT_EQ(stops.push("ND rest"), "");
  EXPECT_TRUE(stops.stopped());
  EXPECT_EQ(stops.stop(), "END");
  EXPECT_EQ(stops.push("more"), "");
  EXPECT_EQ(stops.finish(), "");
}

TEST(StopStrings, MayIncludeTheStop) {
  StopStrings stops({"END"}, /*include_stop=*/true);
  EXPECT_EQ(stops.push("a E"), "a ");
  EXPECT_EQ(stops.push("NDx"), "END");
}

TEST(StopStrings, FinishGivesWhatWasHeldBack) {
  StopStrings stops({"END"});
  EXPECT_EQ(stops.push("the EN"), "the ");
  EXPECT_EQ(stops.finish(), "EN");
  EXPECT_FALSE(stops.stopped());
}

TEST(StopStrings, UnarmedTextPassesBy) {
  StopStrings stops({"END"});
  EXPECT_EQ(stops.push("E"), "");
  EXPECT_EQ(stops.push("ND END E", /*armed=*/false), "END END E");
  EXPECT_EQ(stops.push("ND"), "ND");
  EXPECT_EQ(stops.push(" END"), " ");
}

TEST(StopStrings, WithoutStopsTextGoesThrough) {
  StopStrings stops({"", ""});
  EXPECT_EQ(stops.push("anything"), "anything");
  EXPECT_FALSE(stops.stopped());
}

// Against a search of the whole text: the stop that ends first, of those the longest.
TEST(StopStrings, DoesNotDependOnHowTheTextIsCut) {
  std::mt19937 random(7);
  for (int round = 0; round < 3000; ++round) {
    const auto letters = [&](size_t max) {
      std::string s(random() % (max + 1), 'a');
      for (char& c : s) c = static_cast<char>('a' + random() % 2);
      return s;
    };
    const std::vector<std::string> stops = {letters(4), letters(6), letters(3) + "c"};
    const std::string text = letters(30) + (random() % 2 != 0 ? "c" : "");
    std::string want = text;
    std::string want_stop;
    for (size_t end = 1; end <= text.size() && want_stop.empty(); ++end) {
      for (const std::string& stop : stops) {
        if (stop.empty() || !text.substr(0, end).ends_with(stop)) continue;
        if (stop.size() > want_stop.size()) want_stop = stop;
      }
      if (!want_stop.empty()) want = text.substr(0, end - want_stop.size());
    }
    StopStrings search(stops);
    std::string got;
    for (size_t i = 0; i < text.size();) {
      const size_t piece = 1 + random() % 5;
      got += search.push(text.substr(i, piece));
      i += piece;
    }
    EXPECT_EQ(search.stop(), want_stop) << text;
    got += search.finish();
    ASSERT_EQ(got, want) << text << " round " << round;
  }
}

}  // namespace
}  // namespace trireme
