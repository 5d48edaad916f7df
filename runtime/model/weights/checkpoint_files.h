// Which files a checkpoint is made of. Called by open_checkpoint only; separate because the names
// come out of a file somebody else wrote.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kernels/base/status.h"

namespace trireme {

struct CheckpointFiles {
  std::vector<std::string> paths;  // in the order of their names
  // Of an index: tensor -> position in `paths`. Empty where a single file says it all.
  std::map<std::string, size_t, std::less<>> index;
  std::string index_path;  // empty where there is none
};

// INVARIANT of what is returned: every path is a file of the folder itself (or, in a Hugging Face
// cache, of its blobs folder), or the file the user named.
Result<CheckpointFiles> find_checkpoint_files(const std::string& path);

}  // namespace trireme
