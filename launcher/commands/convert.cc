#include <fmt/format.h>

#include "kernels/base/check.h"
#include "launcher/commands/commands.h"
#include "launcher/output.h"
#include "runtime/model/weights/rwkv_pth.h"

namespace trireme {

int run_convert(const ConvertFlags& flags) {
  CHECK(flags.kind == "rwkv-pth") << flags.kind;  // the command line knows no other
  RankWorld alone;
  const Status done = convert_rwkv_pth(flags.in, flags.out);
  if (!done.ok()) return fail(alone, done, Doing::kLoadingModel);
  print_message(fmt::format("wrote {}", flags.out));
  return kExitOk;
}

}  // namespace trireme
