// The held-out loss of every demo model, as the runtime measures it, is the one that an evaluator
// that shares no code with it wrote into configs/models/README.md, within 1e-3; and the README's
// own two columns agree.
#include <cmath>
#include <fstream>
#include <map>
#include <sstream>

#include <gtest/gtest.h>

#include "kernels/base/json.h"
#include "tests/e2e/program.h"

namespace trireme::test {
namespace {

const std::string kModels = TRIREME_SOURCE_DIR "/configs/models/";

struct Row {
  double evaluator = 0, runtime = 0;
};

// The table of configs/models/README.md: the last two cells of each row that names a model's
// folder.
std::map<std::string, Row> read_table() {
  std::map<std::string, Row> rows;
  std::ifstream file(kModels + "README.md");
  for (std::string line; std::getline(file, line);) {
    std::vector<std::string> cells;
    std::stringstream stream(line);
    for (std::string cell; std::getline(stream, cell, '|');) cells.push_back(cell);
    if (cells.size() < 9 || cells[1].size() < 3) continue;
    const std::string name = cells[1].substr(1, cells[1].size() - 2);
    if (!std::ifstream(kModels + name + "/model.safetensors").good()) continue;
    rows[name] = {std::atof(cells[7].c_str()), std::atof(cells[8].c_str())};
  }
  return rows;
}

TEST(DemoLoss, TheRuntimeAgreesWithTheEvaluator) {
  const std::map<std::string, Row> rows = read_table();
  EXPECT_EQ(rows.size(), 5u) << "the table of configs/models/README.md has changed its shape";
  for (const auto& [name, row] : rows) {
    SCOPED_TRACE(name);
    const Ended ended =
        run_trireme({"score", "--model", kModels + name, "--text-file", kModels + "heldout.txt",
                     "--json", "--tensor-parallel-size", "2"});
    ASSERT_EQ(ended.code, 0) << ended.error;
    const auto json = parse_json(ended.out);
    ASSERT_TRUE(json.ok()) << json.status().message();
    const double loss = json->at("loss").as_double();
    EXPECT_GT(row.evaluator, 1.0);
    EXPECT_NEAR(loss, row.evaluator, 1e-3);
    EXPECT_NEAR(loss, row.runtime, 1e-3);
  }
}

}  // namespace
}  // namespace trireme::test
