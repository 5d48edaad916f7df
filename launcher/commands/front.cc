#include "launcher/commands/front.h"

#include <algorithm>
#include <ctime>

#include <fmt/format.h>

#include "launcher/commands/serving.h"
#include "launcher/output.h"
#include "launcher/version.h"

namespace trireme {
namespace {

// Without the query and the texts, which are the client's own.
void log(const HttpRequest& request, int status, std::chrono::nanoseconds took) {
  std::string line =
      fmt::format("{} {} {} {:.1f} ms {}", request.method, request.path.substr(0, 200), status,
                  static_cast<double>(took.count()) / 1e6, request.request_id.substr(0, 100));
  // A path is decoded: it must not begin a line of its own, nor speak to a terminal.
  std::replace_if(
      line.begin(), line.end(), [](char c) { return (c >= 0 && c < ' ') || c == 127; }, '?');
  print_message(line);
}

std::string url_of(const std::string& host, uint16_t port) {
  const bool is_v6 = host.find(':') != std::string::npos;
  return fmt::format("http://{}{}{}:{}", is_v6 ? "[" : "", host, is_v6 ? "]" : "", port);
}

GatewayOptions options_of(const Deployment& deployment, const ChatTemplate& chat) {
  GatewayOptions options = gateway_options(deployment);
  options.bos_token = chat.bos_token();
  options.eos_token = chat.eos_token();
  options.version = version_number();
  return options;
}

}  // namespace

Result<std::unique_ptr<Front>> Front::start(const Deployment& deployment, const ModelFiles& files,
                                            std::vector<RankPlace> places) {
  ApiKeys keys;
  if (!deployment.gateway.api_keys_file.empty()) {
    Result<ApiKeys> read = ApiKeys::read_file(deployment.gateway.api_keys_file);
    if (!read.ok()) return read.status();
    keys = read.take();
  }
  const ModelOptions& model = deployment.model;
  Result<ChatTemplateSource> source =
      load_chat_template(model.tokenizer.value_or(model.path), model.chat_template);
  if (!source.ok()) return source.status();
  Result<std::unique_ptr<ChatTemplate>> chat =
      ChatTemplate::make(*source, *files.tokenizer, [] { return std::time(nullptr); });
  if (!chat.ok()) return chat.status();
  std::unique_ptr<Front> front(new Front(deployment, files, std::move(keys), chat.take()));
  if (Status s = front->server_.start(); !s.ok()) return s;
  front->api_url_ = url_of(deployment.gateway.host, front->server_.port());
  if (!deployment.admin.enabled) return front;
  if (Status s = front->start_admin(deployment, std::move(places)); !s.ok()) return s;
  return front;
}

Front::Front(const Deployment& deployment, const ModelFiles& files, ApiKeys keys,
             std::unique_ptr<ChatTemplate> chat)
    : keys_(std::move(keys)),
      chat_(std::move(chat)),
      metrics_({gateway_options(deployment).model_names[0], deployment.metrics.vllm_names,
                deployment.metrics.legacy_names}),
      log_requests_(deployment.logging.requests),
      gateway_(options_of(deployment, *chat_), *files.tokenizer, *chat_, metrics_),
      server_(
          http_options(deployment.gateway), gateway_.routes(),
          [this](const HttpRequest& request, HttpResponse& refusal) {
            return keys_.admits(request, refusal);
          },
          [this](const HttpRequest& request, std::string_view route, int status,
                 std::chrono::nanoseconds took) { answered(request, route, status, took); }) {}

Front::~Front() { stop(std::chrono::milliseconds(0)); }

// The page's own server answers the API too, so that the page may talk to the model.
Status Front::start_admin(const Deployment& deployment, std::vector<RankPlace> places) {
  ServerAbout about;
  about.version = version_number();
  about.model = gateway_options(deployment).model_names[0];
  about.root = deployment.model.path;
  about.api_url = api_url_;
  about.ranks = std::move(places);
  admin_ = std::make_unique<Admin>(std::move(about));
  HttpRoutes routes = gateway_.routes();
  admin_->add_routes(routes);
  HttpServerOptions options = http_options(deployment.gateway);
  options.host = deployment.admin.host;
  options.port = static_cast<uint16_t>(deployment.admin.port);
  options.io_threads = 1;
  options.cors_origins.clear();
  admin_server_ = std::make_unique<HttpServer>(
      options, std::move(routes),
      [this, host = options.host](const HttpRequest& request, HttpResponse& refusal) {
        return admits_admin(host, keys_, request, refusal);
      },
      [this](const HttpRequest& request, std::string_view route, int status,
             std::chrono::nanoseconds took) { answered(request, route, status, took); });
  if (Status s = admin_server_->start(); !s.ok()) return s.at("admin");
  admin_url_ = url_of(options.host, admin_server_->port());
  return {};
}

void Front::answered(const HttpRequest& request, std::string_view route, int status,
                     std::chrono::nanoseconds took) {
  metrics_.answered(route, status);
  if (log_requests_) log(request, status, took);
}

void Front::set_engine(EngineClient& engine, EngineMonitor& monitor,
                       ConstraintCompiler& constraints) {
  gateway_.set_engine(engine, &constraints);
  if (admin_ != nullptr) admin_->set_monitor(monitor);
}

// The page goes on showing what is left.
void Front::drain() {
  gateway_.set_draining();
  if (admin_ != nullptr) admin_->set_draining();
  server_.stop_accepting();
}

void Front::stop(std::chrono::milliseconds grace) {
  server_.stop(grace);
  if (admin_server_ != nullptr) admin_server_->stop();
}

}  // namespace trireme
