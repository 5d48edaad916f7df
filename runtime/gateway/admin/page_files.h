// The page's files, put into the program when it is built.
#pragma once

#include <string_view>

namespace trireme {

extern const std::string_view kPageHtml, kPageJs, kPageCss;

}  // namespace trireme
