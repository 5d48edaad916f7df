// Normalization forms, against the examples of Unicode's annex 15, and on the texts on which naive
// canonical ordering takes hours.
#include "runtime/text/unicode.h"

#include <gtest/gtest.h>

namespace trireme {
namespace {

TEST(Unicode, NormalForms) {
  struct Case {
    const char* text;
    const char* nfc;
    const char* nfd;
    const char* nfkc;
    const char* nfkd;
  };
  const Case cases[] = {
      {"plain", "plain", "plain", "plain", "plain"},
      {"e\u0301", "\u00e9", "e\u0301", "\u00e9", "e\u0301"},
      {"\u212b", "\u00c5", "A\u030a", "\u00c5", "A\u030a"},  // angstrom sign
      {"\ufb01", "\ufb01", "\ufb01", "fi", "fi"},
      {"\u1e9b\u0323", "\u1e9b\u0323", "\u017f\u0323\u0307", "\u1e69", "s\u0323\u0307"},
      {"q\u0307\u0323", "q\u0323\u0307", "q\u0323\u0307", "q\u0323\u0307", "q\u0323\u0307"},
      {"\u1112\u1161\u11ab", "\ud55c", "\u1112\u1161\u11ab", "\ud55c", "\u1112\u1161\u11ab"},
      {"\u0958", "\u0915\u093c", "\u0915\u093c", "\u0915\u093c", "\u0915\u093c"},  // excluded
  };
  for (const Case& c : cases) {
    EXPECT_EQ(normalize(c.text, NormalForm::kNfc), c.nfc) << c.text;
    EXPECT_EQ(normalize(c.text, NormalForm::kNfd), c.nfd) << c.text;
    EXPECT_EQ(normalize(c.text, NormalForm::kNfkc), c.nfkc) << c.text;
    EXPECT_EQ(normalize(c.text, NormalForm::kNfkd), c.nfkd) << c.text;
  }
}

// Marks above (class 230) and below (class 220) by turns: 200,000 that all have to move past each
// other. Swapping neighbours would take 10^10 steps.
TEST(Unicode, ManyMarksAreOrderedAtOnce) {
  std::string text = "a";
  std::string ordered = "a";
  for (int i = 0; i < 100000; ++i) text += "\u0301\u0316";
  for (int i = 0; i < 100000; ++i) ordered += "\u0316";
  for (int i = 0; i < 100000; ++i) ordered += "\u0301";
  EXPECT_TRUE(normalize(text, NormalForm::kNfd) == ordered);
}

TEST(Unicode, LowerCaseIsOfEachCharacterAlone) {
  EXPECT_EQ(lower_case("ABC \u00c9\u0130 \u03a3\u03a3 \u01c5"),
            "abc \u00e9i\u0307 \u03c3\u03c3 \u01c6");
}

TEST(Unicode, Marks) {
  EXPECT_TRUE(is_mark(0x0301));
  EXPECT_TRUE(is_mark(0x0903));
  EXPECT_TRUE(is_mark(0x20DD));
  EXPECT_FALSE(is_mark('a'));
}

}  // namespace
}  // namespace trireme
