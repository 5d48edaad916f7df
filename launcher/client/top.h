// `trireme top URL`: a server's load, live in the terminal.
#pragma once

#include <string>

#include "launcher/client/console.h"

namespace trireme {

struct TopOptions {
  std::string url = "http://127.0.0.1:8000";
  std::string api_key;
  double interval_s = 1;  // 0.1 to 3600
  bool plain = false;  // one line per interval instead of a screen; so where stdout is no terminal
  bool once = false;   // two scrapes, an interval apart, then the screen once, without colour
};

// Until Ctrl-C, SIGTERM or `q`, which return 0. The terminal is left as it was found: no other way
// out ends the process while the screen is up. Errors: the server is not there at the first scrape
// (later ones are shown and tried again), or has no /metrics.
Result<int> run_top(const TopOptions& options, const ClientConsole& console);

}  // namespace trireme
