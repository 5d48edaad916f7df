// The chat in a pipe and at a pretended terminal, and the trace that is fetched, against a scripted
// server.
#include "launcher/client/chat.h"

#include <filesystem>
#include <sstream>

#include <gtest/gtest.h>

#include "kernels/base/json.h"
#include "launcher/client/trace.h"
#include "tests/launcher/client/fake_server.h"

namespace trireme {
namespace {

using test::FakeReply;
using test::FakeRequest;
using test::FakeServer;

struct Said {
  Result<int> code = kClientOk;
  std::string out, messages;
};

ClientConsole console_of(Said& said) {
  return {[&](std::string_view text) {
            said.out += text;
            return Status();
          },
          [&](std::string_view text) { said.messages += std::string(text) + "\n"; }};
}

Said chat(const FakeServer& server, const std::string& input, bool terminal,
          ChatOptions options = {}) {
  Said said;
  options.url = server.url();
  options.call.model = "m";
  std::istringstream in(input);
  said.code = run_chat(options, console_of(said), in, terminal);
  return said;
}

FakeReply reply(const FakeRequest& request) {
  if (request.path == "/v1/chat/completions")
    return test::stream({test::chat_event(""), test::chat_event("Hel"), test::chat_event("lo"),
                         test::finish_event(), test::usage_event(5, 2, 3), test::kDone});
  return test::whole(404, "{}");
}

Json messages_of(const FakeServer& server, size_t request) {
  return parse_json(server.requests().at(request).body)->at("messages");
}

TEST(Chat, APipeIsOneTurnPerLineWithHistory) {
  FakeServer server(reply);
  ChatOptions options;
  options.system = "be brief";
  options.stats = true;
  const Said said = chat(server, "first\r\n\nsecond\n/reset", false, options);
  ASSERT_TRUE(said.code.ok()) << said.code.status().message();
  EXPECT_EQ(said.out, "Hello\nHello\nHello\n");  // a command is a turn there
  EXPECT_NE(said.messages.find("2 tokens"), std::string::npos) << said.messages;
  EXPECT_NE(said.messages.find("prompt 5 tokens (3 cached)"), std::string::npos);
  EXPECT_EQ(
      messages_of(server, 1),
      *parse_json(R"([{"role":"system","content":"be brief"},{"role":"user","content":"first"},
                            {"role":"assistant","content":"Hello"},{"role":"user","content":"second"}])"));
}

TEST(Chat, CommandsOfATerminal) {
  FakeServer server(reply);
  const Said said =
      chat(server, "one\n/reset\ntwo\n/system rules\nthree\n/params\n/help\n/exit\nno\n", true);
  ASSERT_TRUE(said.code.ok());
  ASSERT_EQ(server.requests().size(), 3u);
  EXPECT_EQ(messages_of(server, 1), *parse_json(R"([{"role":"user","content":"two"}])"));
  EXPECT_EQ(
      messages_of(server, 2),
      *parse_json(R"([{"role":"system","content":"rules"},{"role":"user","content":"three"}])"));
  EXPECT_NE(said.messages.find("model m, temperature the server's"), std::string::npos);
}

TEST(Chat, FallsBackToCompletions) {
  FakeServer server([](const FakeRequest& r) {
    if (r.path != "/v1/completions") return test::whole(404, "{}");
    return test::stream({test::text_event(" yes"), test::finish_event(), test::kDone});
  });
  const Said said = chat(server, "a\nb\n", false);
  ASSERT_TRUE(said.code.ok()) << said.code.status().message();
  EXPECT_EQ(said.out, " yes\n yes\n");
  EXPECT_NE(said.messages.find("no chat endpoint"), std::string::npos);
  const Json last = *parse_json(server.requests().at(2).body);
  EXPECT_EQ(last.at("prompt"), "User: a\nAssistant:  yes\nUser: b\nAssistant:");
}

TEST(Chat, AnErrorEndsAPipeButNotAChat) {
  int count = 0;
  FakeServer server([&](const FakeRequest& r) {
    return count++ == 0 ? test::whole(500, "{\"error\":{\"message\":\"busy\"}}") : reply(r);
  });
  const Said pipe = chat(server, "a\nb\n", false);
  EXPECT_NE(pipe.code.status().message().find("status 500: busy"), std::string::npos);
  EXPECT_EQ(pipe.out, "");
  count = 0;
  const Said typed = chat(server, "a\nb\n", true);
  EXPECT_TRUE(typed.code.ok());
  EXPECT_NE(typed.messages.find("busy"), std::string::npos);
  EXPECT_NE(typed.out.find("Hello"), std::string::npos);
  EXPECT_EQ(messages_of(server, 2), *parse_json(R"([{"role":"user","content":"b"}])"));
}

TEST(Chat, ATerminalSeesNoControlCharactersOfAnAnswer) {
  FakeServer server([](const FakeRequest&) {
    return test::stream({test::chat_event("a\\u001b[2Jb\\n"), test::finish_event(), test::kDone});
  });
  EXPECT_EQ(chat(server, "x\n", true).out.find('\x1b'), std::string::npos);
  EXPECT_NE(chat(server, "x\n", false).out.find('\x1b'), std::string::npos);
}

TEST(Trace, WritesWhatIsATraceAndNothingElse) {
  std::string body = "{\"traceEvents\":[{\"ph\":\"X\"}]}";
  int status = 200;
  FakeServer server([&](const FakeRequest&) { return test::whole(status, body); });
  const std::string file =
      std::filesystem::temp_directory_path() / ("trireme_trace_" + std::to_string(getpid()));
  TraceOptions options{server.url(), "", file, 3};
  Said said;
  EXPECT_TRUE(run_trace(options, console_of(said)).ok());
  EXPECT_EQ(server.requests().at(0).path, "/admin/trace?seconds=3");
  EXPECT_EQ(*read_file(file), body);
  std::filesystem::remove(file);
  for (const char* wrong : {"{}", "[]", "x", "{\"traceEvents\":1}"}) {
    body = wrong;
    EXPECT_EQ(run_trace(options, console_of(said)).status().code(), StatusCode::kDataLoss) << wrong;
  }
  status = 404;
  EXPECT_EQ(run_trace(options, console_of(said)).status().code(), StatusCode::kNotFound);
  EXPECT_FALSE(std::filesystem::exists(file));
  options.seconds = 0;
  EXPECT_EQ(run_trace(options, console_of(said)).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace trireme
