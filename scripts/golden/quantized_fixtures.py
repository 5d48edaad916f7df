"""Tiny quantized matrices, packed and dequantized by the packages that real checkpoints come from.

python -m golden.quantized_fixtures OUT OLD_COMPRESSED_TENSORS   from scripts/, with the packages of VERSIONS

Writes OUT/quantized.safetensors, one checkpoint with every fixture under a stem of its own, and OUT/quantized.json, which
says the quantization_config and the shape of each. `<stem>.expected` holds each STRIDE-th number of the dequantized
matrix [outputs, inputs] in order: all positions in a word and all groups are among them. Scales are made f32 before an
official dequantizer sees them, so that what it gives is scale * (code - zero) rounded once.

The quantizers' packages are installed with --no-deps --no-build-isolation, as none of their kernels is needed, and what
their imports then miss by hand. OLD_COMPRESSED_TENSORS is a folder with compressed-tensors 0.9.4 (pip install --no-deps
--target): later versions have no activation order by groups. No GPU: CUDA_VISIBLE_DEVICES= keeps them from looking.
"""

import importlib
import json
import os
import subprocess
import sys
import types
import zlib
from pathlib import Path

import numpy as np
import torch

from . import store

VERSIONS = {"torch": "2.15.0", "auto-gptq": "0.7.1", "gptqmodel": "7.7.0", "auto-round": "0.16.1", "autoawq": "0.2.9",
            "compressed-tensors": "0.20.0", "transformers": "5.24.0"}
STRIDE = 19
# Imported without their __init__, which wants other versions of transformers.
NO_INIT = ["awq", "awq.modules", "awq.modules.linear", "auto_gptq", "auto_gptq.nn_modules", "auto_gptq.nn_modules.qlinear"]


def without_init(name):
    relative = name.replace(".", "/")
    root = next(p for p in sys.path if os.path.isdir(os.path.join(p, relative)))
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [os.path.join(root, relative)]


def draw(seed, rows, cols):
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 0.05, (rows, cols)).astype(np.float32))


def linear(weight):
    made = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    made.weight.data = weight
    return made


def parameters(weight, bits, group, symmetric, dtype=torch.float16, index=None):
    """Scales and zeros [rows, groups] of unsigned codes; `index` is the group of each input."""
    rows, cols = weight.shape
    index = torch.arange(cols) // group if index is None else index
    groups = int(index.max()) + 1
    scales, zeros = torch.zeros(rows, groups), torch.zeros(rows, groups)
    top = 2**bits - 1
    for g in range(groups):
        x = weight[:, index == g]
        low, high = x.amin(1).clamp(max=0), x.amax(1).clamp(min=0)
        if symmetric:
            low, high = -torch.maximum(high, -low), torch.maximum(high, -low)
        scales[:, g] = (high - low) / top
        zeros[:, g] = (top + 1) / 2 if symmetric else torch.round(-low / scales[:, g])
    return scales.to(dtype).float(), zeros


def gptq_auto(weight, bits, group, index=None):
    """AutoGPTQ, symmetric: its packer cannot store the zero 0."""
    layer = importlib.import_module("auto_gptq.nn_modules.qlinear.qlinear_cuda").QuantLinear(
        bits, group, weight.shape[1], weight.shape[0], False)
    scales, zeros = parameters(weight, bits, weight.shape[1] if group == -1 else group, True, index=index)
    layer.pack(linear(weight.half()), scales.half(), zeros.half(), None if index is None else index.int())
    tensors = {name: getattr(layer, name) for name in ("qweight", "qzeros", "scales", "g_idx")}
    layer.scales = layer.scales.float()
    return tensors, layer(torch.eye(weight.shape[1])).T


def gptq_model(weight, bits, group, version, signs):
    """GPTQModel, with a zero of its own for each group, 0 among them, and negative scales where `signs` says."""
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear
    from gptqmodel.quantization.config import QuantizeConfig
    from gptqmodel.utils import model

    layer = TorchLinear(bits=bits, group_size=group, sym=False, desc_act=False, in_features=weight.shape[1],
                        out_features=weight.shape[0])
    weight[3:6, :group] = weight[3:6, :group].abs() + 0.01  # zeros that are 0
    scales, zeros = parameters(weight, bits, group, False)
    assert (zeros == 0).any()
    scales[signs] *= -1
    zeros[signs] = 2**bits - 1 - zeros[signs]
    layer.pack_original(linear(weight), scales, zeros, torch.arange(weight.shape[1], dtype=torch.int32) // group)
    layer.post_init()
    stored = layer.scales.clone()
    layer.scales = stored.float()
    expected = layer.dequantize_weight().T
    if version == 1:
        model.convert_gptq_v2_to_v1_format_module(layer, QuantizeConfig(bits=bits, group_size=group))
    tensors = {"qweight": layer.qweight, "qzeros": layer.qzeros.clone(), "scales": stored, "g_idx": layer.g_idx}
    if version == 1:
        model.convert_gptq_v1_to_v2_format_module(layer, bits, torch.int32)
        assert torch.equal(layer.dequantize_weight().T, expected)
    return tensors, expected


def auto_round(weight, bits, group):
    """AutoRound's symmetric codes, whose scales are negative where the largest weight is positive."""
    from auto_round.data_type.int import quant_tensor_sym
    from auto_round_extension.torch.qlinear_torch_zp import QuantLinear

    on_grid, scales, zero = quant_tensor_sym(weight, bits, group)
    layer = QuantLinear(bits, group, weight.shape[1], weight.shape[0], bias=False)
    layer.pack(linear(on_grid), scales.reshape(weight.shape[0], -1), zero, None, "cpu")
    tensors = {name: getattr(layer, name) for name in ("qweight", "qzeros", "scales")}
    assert (layer.scales < 0).any()
    layer.scales = layer.scales.float()
    return tensors, layer(torch.eye(weight.shape[1])).T


def awq(weight, group):
    layer_of = importlib.import_module("awq.modules.linear.gemm").WQLinear_GEMM
    unpack = importlib.import_module("awq.utils.packing_utils").dequantize_gemm
    scales, zeros = parameters(weight, 4, group, False)
    full = scales.repeat_interleave(group, 1), zeros.repeat_interleave(group, 1)
    codes = (torch.round(weight / full[0]) + full[1]).clamp(0, 15)  # the packer takes what is on the grid
    weight = (codes - full[1]) * full[0]
    layer = layer_of.from_linear(linear(weight), 4, group, scales=scales.T.contiguous(), zeros=zeros.T.contiguous())
    tensors = {name: getattr(layer, name) for name in ("qweight", "qzeros", "scales")}
    return tensors, unpack(layer.qweight, layer.qzeros, layer.scales.float(), 4, group).T


def compressed(weight, format, scale, zero=None, **args):
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(symmetric=zero is None, **args))
    compressor = BaseCompressor.get_value_from_registry(format)
    state = {"weight": weight, "weight_scale": scale}
    if zero is not None:
        state["weight_zero_point"] = zero.to(torch.int8)
    tensors = compressor.compress(state, scheme)
    with_f32 = tensors | {"weight_scale": tensors["weight_scale"].float()}
    return tensors, compressor.decompress(with_f32, scheme)["weight"]


def compressed_integers(weight, format, bits, group, symmetric, dtype, signs=None):
    rows, cols = weight.shape
    scales, zeros = parameters(weight, bits, group or cols, symmetric, dtype)
    zeros -= 2 ** (bits - 1)
    if signs is not None:
        scales[signs] *= -1
        zeros[signs] = -1 - zeros[signs]
    args = {"strategy": "group", "group_size": group} if group else {"strategy": "channel"}
    return compressed(weight, format, scales.to(dtype), None if symmetric else zeros, num_bits=bits, type="int", **args)


def compressed_floats(weight, strategy, dtype, block=None):
    rows, cols = weight.shape
    if strategy == "block":
        height, width = block
        padded = torch.nn.functional.pad(weight.abs(), (0, -cols % width, 0, -rows % height))
        scale = padded.unflatten(0, (-1, height)).unflatten(2, (-1, width)).amax((1, 3)) / 448
    elif strategy == "channel":
        scale = weight.abs().amax(1, keepdim=True) / 448
        scale[1::3] *= -1
    else:
        scale = (weight.abs().max() / 448).reshape(1)
    args = {"block_structure": list(block)} if block else {}
    return compressed(weight, "float-quantized", scale.to(dtype), num_bits=8, type="float", strategy=strategy, **args)


OLD = """
import sys; sys.path.insert(0, sys.argv[1])
import torch
from compressed_tensors.compressors.quantized_compressors.pack_quantized import PackedQuantizationCompressor as Packer
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import dequantize
from compressed_tensors.compressors.quantized_compressors.pack_quantized import unpack_from_int32
weight, scale, zero, index, group = torch.load(sys.argv[2])
args = QuantizationArgs(num_bits=4, type="int", strategy="group", group_size=group, symmetric=True, actorder="group")
tensors = Packer().compress_weight(weight=weight, scale=scale, quantization_args=args, zero_point=zero, g_idx=index)
tensors = {k: tensors[k] for k in ("weight_packed", "weight_shape")} | {"weight_scale": scale, "weight_g_idx": index}
codes = unpack_from_int32(tensors["weight_packed"], 4, tensors["weight_shape"])
torch.save((tensors, dequantize(x_q=codes, scale=scale.float(), zero_point=None, g_idx=index, args=args)), sys.argv[2])
"""


def compressed_old(weight, group, folder, index):
    scales, zeros = parameters(weight, 4, group, True, torch.bfloat16, index)
    path = Path(folder) / "exchange.pt"
    torch.save((weight, scales.bfloat16(), torch.zeros_like(zeros).to(torch.int8), index.int(), group), path)
    subprocess.run([sys.executable, "-c", OLD, folder, path], check=True)
    made = torch.load(path)
    path.unlink()
    return made


def fp8(weight, block, scale_dtype):
    """What transformers quantizes and dequantizes of DeepSeek's kind."""
    from transformers.integrations.finegrained_fp8 import _dequantize_fp8_weight

    rows, cols = weight.shape
    if block is None:
        scale = weight.abs().max() / 448
        full = scale
    else:
        height, width = block
        padded = torch.nn.functional.pad(weight.abs(), (0, -cols % width, 0, -rows % height))
        scale = padded.unflatten(0, (-1, height)).unflatten(2, (-1, width)).amax((1, 3)) / 448
        if scale_dtype == torch.float8_e8m0fnu:
            scale = torch.exp2(torch.ceil(torch.log2(scale)))
        full = scale.repeat_interleave(height, 0)[:rows].repeat_interleave(width, 1)[:, :cols]
    codes = (weight / full).clamp(-448, 448).to(torch.float8_e4m3fn)
    stored = scale.to(scale_dtype)
    expected = _dequantize_fp8_weight(codes, stored.float(), list(block) if block else None, torch.float32)
    name = "weight_scale" if block is None else "weight_scale_inv"
    return {"weight": codes, name: stored}, expected


def fixtures(old):
    order = torch.from_numpy(np.random.default_rng(9).permutation(128))
    shuffled = torch.zeros(128, dtype=torch.int64)
    shuffled[order] = torch.arange(128) // 32
    signs = torch.from_numpy(np.random.default_rng(8).random((16, 4)) < 0.4)

    def gptq(bits, group, format="gptq", **more):
        return {"quant_method": "gptq", "bits": bits, "group_size": group, "checkpoint_format": format, **more}

    def ct(format, **weights):
        return {"quant_method": "compressed-tensors", "format": format, "quantization_status": "compressed",
                "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}, "ignore": ["lm_head"]}

    integers = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}
    floats = {"num_bits": 8, "type": "float", "symmetric": True}
    groups = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}
    return {
        "gptq_4": ((32, 160), gptq(4, 128, sym=True), lambda w: gptq_auto(w, 4, 128)),
        "gptq_4_rows": ((32, 64), gptq(4, -1, sym=True), lambda w: gptq_auto(w, 4, -1)),
        "gptq_order": ((32, 128), gptq(4, 32, desc_act=True), lambda w: gptq_auto(w, 4, 32, shuffled)),
        "gptq_v1": ((16, 128), gptq(4, 32, sym=False), lambda w: gptq_model(w, 4, 32, 1, signs)),
        "gptq_v2": ((16, 128), gptq(4, 64, "gptq_v2", sym=False), lambda w: gptq_model(w, 4, 64, 2, signs[:, :2])),
        "gptq_v1_8": ((16, 64), gptq(8, 32, sym=False), lambda w: gptq_model(w, 8, 32, 1, signs[:, :2])),
        "auto_round": ((32, 64), {"quant_method": "auto-round", "bits": 4, "group_size": 32, "sym": True, "data_type": "int",
                                  "packing_format": "auto_round:auto_gptq"}, lambda w: auto_round(w, 4, 32)),
        "awq_128": ((32, 256), {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True},
                    lambda w: awq(w, 128)),
        "awq_32": ((32, 64), {"quant_method": "awq", "w_bit": 4, "q_group_size": 32, "version": "GEMM"}, lambda w: awq(w, 32)),
        "ct_pack_4": ((16, 256), ct("pack-quantized", **groups | {"group_size": 128}),
                      lambda w: compressed_integers(w, "pack-quantized", 4, 128, True, torch.bfloat16)),
        "ct_pack_4_zeros": ((12, 96), ct("pack-quantized", **groups | {"symmetric": False}),
                            lambda w: compressed_integers(w, "pack-quantized", 4, 32, False, torch.float16)),
        "ct_pack_4_odd": ((10, 80), ct("pack-quantized", **groups | {"symmetric": False, "group_size": 16}),
                          lambda w: compressed_integers(w, "pack-quantized", 4, 16, False, torch.bfloat16)),
        "ct_pack_8_zeros": ((10, 66), ct("pack-quantized", **integers | {"symmetric": False}),
                            lambda w: compressed_integers(w, "pack-quantized", 8, None, False, torch.bfloat16)),
        "ct_order": ((16, 128), ct("pack-quantized", **groups | {"actorder": "group"}),
                     lambda w: compressed_old(w, 32, old, shuffled)),
        "ct_int_8": ((16, 64), ct("int-quantized", **integers),
                     lambda w: compressed_integers(w, "int-quantized", 8, None, True, torch.bfloat16)),
        "ct_int_8_zeros": ((16, 48), ct("int-quantized", **integers | {"symmetric": False}),
                           lambda w: compressed_integers(w, "int-quantized", 8, None, False, torch.float32, signs[:, :1])),
        "ct_fp8_tensor": ((12, 40), ct("float-quantized", **floats | {"strategy": "tensor"}),
                          lambda w: compressed_floats(w, "tensor", torch.float32)),
        "ct_fp8_channel": ((16, 64), ct("float-quantized", **floats | {"strategy": "channel"}),
                           lambda w: compressed_floats(w, "channel", torch.bfloat16)),
        "ct_fp8_block": ((36, 72), ct("float-quantized", **floats | {"strategy": "block", "block_structure": [32, 64]}),
                         lambda w: compressed_floats(w, "block", torch.bfloat16, (32, 64))),
        "fp8_block": ((20, 144), {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [16, 128]},
                      lambda w: fp8(w, (16, 128), torch.float32)),
        "fp8_powers": ((20, 72), {"quant_method": "fp8", "weight_block_size": [16, 64], "scale_fmt": "ue8m0"},
                       lambda w: fp8(w, (16, 64), torch.float8_e8m0fnu)),
        "fp8_tensor": ((12, 40), {"quant_method": "fp8", "activation_scheme": "static"}, lambda w: fp8(w, None, torch.float32)),
    }


BYTES = {torch.float8_e4m3fn: "F8_E4M3", torch.float8_e8m0fnu: "F8_E8M0", torch.int8: "I8"}


def stored(tensor):
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint16).numpy(), "BF16"
    if tensor.dtype in BYTES:
        return tensor.view(torch.uint8).numpy(), BYTES[tensor.dtype]
    return tensor.numpy()


def main(out, old):
    torch.set_num_threads(1)
    for package in NO_INIT:
        without_init(package)
    tensors, cases = {}, {}
    with torch.no_grad():
        for stem, (shape, config, make) in fixtures(old).items():
            parts, expected = make(draw(zlib.crc32(stem.encode()), *shape))
            assert expected.dtype == torch.float32 and tuple(expected.shape) == shape, stem
            tensors |= {f"{stem}.{name}": stored(tensor) for name, tensor in parts.items()}
            tensors[f"{stem}.expected"] = stored(expected.reshape(-1)[::STRIDE])
            cases[stem] = {"rows": shape[0], "cols": shape[1], "quantization_config": config}
    # Each tensor aligned for its type, as every writer of safetensors does it.
    width = {name: (v[0] if isinstance(v, tuple) else v).itemsize for name, v in tensors.items()}
    ordered = {name: tensors[name] for name in sorted(tensors, key=lambda n: (-width[n], n))}
    store.save_safetensors(Path(out) / "quantized.safetensors", ordered)
    lines = ",\n".join(f'  "{stem}": {json.dumps(case)}' for stem, case in cases.items())
    text = f'{{"versions": {json.dumps(VERSIONS)},\n "stride": {STRIDE},\n "cases": {{\n{lines}}}}}\n'
    (Path(out) / "quantized.json").write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
