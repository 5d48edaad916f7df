#include "launcher/client/trace.h"

#include <fmt/format.h>

#include "kernels/base/json.h"
#include "launcher/client/http_fetch.h"
#include "launcher/client/write_file.h"

namespace trireme {

Result<int> run_trace(const TraceOptions& options, const ClientConsole& console) {
  constexpr int64_t kSecondsMax = 3600, kPatience = 30;
  if (options.seconds < 1 || options.seconds > kSecondsMax)
    return invalid_argument(
        fmt::format("--seconds is from 1 to {}, not {}", kSecondsMax, options.seconds));
  if (options.file.empty()) return invalid_argument("no file: give -o FILE.json");
  const Result<ServerUrl> url = parse_server_url(options.url);
  if (!url.ok()) return url.status();
  HttpOptions http;
  http.api_key = options.api_key;
  http.idle_timeout = std::chrono::seconds(options.seconds + kPatience);
  http.body_bytes_max = size_t{1} << 30;
  console.message(fmt::format("tracing {} for {} s", url->text(), options.seconds));
  const std::string path = fmt::format("/admin/trace?seconds={}", options.seconds);
  const Result<HttpAnswer> answer = fetch(*url, http, "GET", path);
  if (!answer.ok()) return answer.status();
  if (answer->status == 404)
    return not_found(
        fmt::format("{} has no /admin/trace: is it the admin port of a Trireme server "
                    "with tracing on?",
                    url->text()));
  if (answer->status != 200)
    return unavailable(fmt::format("{}{}: {}", url->text(), path, error_message(*answer)));
  const Result<Json> json = parse_json(answer->body);
  const Json* events = json.ok() ? find(*json, "traceEvents") : nullptr;
  if (events == nullptr || !events->is_array())
    return data_loss(
        fmt::format("{}{}: what came is no trace: {}", url->text(), path,
                    json.ok() ? "it has no list traceEvents" : json.status().message()));
  if (Status s = write_file(options.file, answer->body); !s.ok()) return s;
  console.message(fmt::format("wrote {}: {} events, for https://ui.perfetto.dev", options.file,
                              events->as_array().size()));
  return kClientOk;
}

}  // namespace trireme
