// Everything before the engine, on rank 0 alone: what clients talk to, and the address for those
// who run the server.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "launcher/commands/worker.h"
#include "runtime/chat/chat_template.h"
#include "runtime/config/deployment.h"
#include "runtime/gateway/admin/admin.h"
#include "runtime/gateway/gateway.h"
#include "runtime/gateway/http/auth.h"
#include "runtime/gateway/http/server.h"

namespace trireme {

class Front {
 public:
  // Listens: until there is an engine, whatever is asked is told that the model is being loaded.
  // `places`: of the worker's ranks.
  static Result<std::unique_ptr<Front>> start(const Deployment& deployment, const ModelFiles& files,
                                              std::vector<RankPlace> places);
  ~Front();
  Front(const Front&) = delete;

  void set_engine(EngineClient& engine, EngineMonitor& monitor, ConstraintCompiler& constraints);
  // No new requests; those that run go on.
  void drain();
  // What is under way has `grace` to end.
  void stop(std::chrono::milliseconds grace);

  bool open() const { return keys_.open(); }  // to whoever reaches it
  std::string api_url() const { return api_url_; }
  std::string admin_url() const { return admin_url_; }  // "": there is none

 private:
  Front(const Deployment& deployment, const ModelFiles& files, ApiKeys keys,
        std::unique_ptr<ChatTemplate> chat);
  Status start_admin(const Deployment& deployment, std::vector<RankPlace> places);
  void answered(const HttpRequest& request, std::string_view route, int status,
                std::chrono::nanoseconds took);

  const ApiKeys keys_;
  const std::unique_ptr<ChatTemplate> chat_;
  GatewayMetrics metrics_;
  const bool log_requests_;
  Gateway gateway_;
  HttpServer server_;
  std::string api_url_, admin_url_;
  std::unique_ptr<Admin> admin_;
  std::unique_ptr<HttpServer> admin_server_;
};

}  // namespace trireme
