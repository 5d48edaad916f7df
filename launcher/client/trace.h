// `trireme trace URL -o FILE --seconds N`: what a server did for N seconds, for ui.perfetto.dev.
#pragma once

#include <string>

#include "launcher/client/console.h"

namespace trireme {

struct TraceOptions {
  std::string url = "http://127.0.0.1:8001";  // of the admin address
  std::string api_key;
  std::string file;
  int64_t seconds = 10;  // 1 to 3600
};

// GET /admin/trace?seconds=N into the file, once it is sure that it is a trace: a JSON object with
// traceEvents. Waits N seconds and 30 more. Errors: a server that is not there, that has no such
// endpoint, or sends something else; a file that cannot be written.
Result<int> run_trace(const TraceOptions& options, const ClientConsole& console);

}  // namespace trireme
