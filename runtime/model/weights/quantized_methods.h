// The methods of quantization that are read, each in a file of its own. Called by
// quantized_tensors.cc alone. The fields are those of quantization_config.
#pragma once

#include <memory>

#include "kernels/base/status.h"
#include "runtime/model/weights/quantization_fields.h"
#include "runtime/model/weights/quantized_tensors.h"

namespace trireme {

Result<std::unique_ptr<QuantizedTensors>> gptq_tensors(QuantizationFields fields);
Result<std::unique_ptr<QuantizedTensors>> awq_tensors(QuantizationFields fields);
Result<std::unique_ptr<QuantizedTensors>> compressed_tensors(QuantizationFields fields);
Result<std::unique_ptr<QuantizedTensors>> fp8_tensors(QuantizationFields fields);

}  // namespace trireme
