// `trireme chat URL`: a chat in the terminal with any OpenAI-compatible server.
#pragma once

#include <istream>
#include <string>

#include "launcher/client/completion_stream.h"
#include "launcher/client/console.h"

namespace trireme {

struct ChatOptions {
  std::string url = "http://127.0.0.1:8000";
  std::string api_key;
  std::string system;  // "" = none
  CallOptions call;    // model "" = the server's first
  bool stats = false;  // times and rates after each answer, on stderr
  int64_t timeout_s = 600;
};

// Reads turns from `in` until it ends. `terminal`: somebody is typing; there is a prompt, /reset,
// /system TEXT, /params, /help and /exit, an error of one turn does not end the chat, and Ctrl-C
// stops an answer (between answers it ends the program). Else each line is a turn and each answer a
// line of output, and the first error ends it. A server without a chat endpoint gets the transcript
// as a completion, and a note says so.
Result<int> run_chat(const ChatOptions& options, const ClientConsole& console, std::istream& in,
                     bool terminal);

}  // namespace trireme
