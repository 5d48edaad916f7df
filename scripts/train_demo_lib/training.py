"""Trains one model: Muon for the matrices inside the layers, AdamW for all else, bf16 matrix
products with fp32 weights, norms and recurrences."""

import time

import torch
import torch.nn.functional as F

from . import attention_models, rwkv_models
from .specs import CONTEXT

KINDS = {
    "llama": (attention_models.llama_shapes, attention_models.llama_forward,
              attention_models.initial_value),
    "yoco": (attention_models.yoco_shapes, attention_models.yoco_forward,
             attention_models.initial_value),
    "rwkv4": (rwkv_models.rwkv_shapes, rwkv_models.rwkv4_forward, rwkv_models.initial_value),
    "rwkv7": (rwkv_models.rwkv_shapes, rwkv_models.rwkv7_forward, rwkv_models.initial_value),
}


def forward(config, tensors, tokens):
    return KINDS[config["model_type"]][1](config, tensors, tokens)


def initial_tensors(config):
    shapes, _, initial_value = KINDS[config["model_type"]]
    return {name: initial_value(name, shape, config).requires_grad_()
            for name, shape in shapes(config).items()}


def loss_on(config, tensors, batch):
    logits = forward(config, tensors, batch[:, :-1])
    return F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())


def _optimizers(tensors, rate):
    matrix = lambda name: name.endswith("_proj.weight") or (
        name.startswith("blocks.") and name.endswith(
            ("key.weight", "value.weight", "receptance.weight", "output.weight")))
    hidden = [t for n, t in tensors.items() if matrix(n)]
    large = [t for n, t in tensors.items() if not matrix(n) and t.squeeze().dim() > 1]
    small = [t for n, t in tensors.items() if not matrix(n) and t.squeeze().dim() == 1]
    return [torch.optim.Muon(hidden, lr=rate, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW([{"params": large, "weight_decay": 0.1},
                               {"params": small, "weight_decay": 0.0}],
                              lr=rate, betas=(0.9, 0.98))]


def _crops(stream, length, count, generator):
    starts = torch.randint(0, len(stream) - length - 1, (count, 1), generator=generator)
    return stream[starts + torch.arange(length + 1)]


def train(spec, train_tokens, valid_tokens, steps, report):
    """Returns the trained tensors in fp32. `report(line)` is called now and then."""
    torch.manual_seed(20240601)
    generator = torch.Generator().manual_seed(7)
    config, rate = spec["config"], spec["rate"]
    tensors = initial_tensors(config)
    optimizers = _optimizers(tensors, rate)
    stream, valid = torch.tensor(train_tokens), torch.tensor(valid_tokens)
    valid = valid[:8 * CONTEXT + 1].unfold(0, CONTEXT + 1, CONTEXT)
    # Compiling takes a minute (and a C++ compiler) and makes a step of the RWKV models, which are
    # many small operations, twice as fast; the others gain too little.
    recurrent = config["model_type"].startswith("rwkv")
    step_loss = torch.compile(loss_on, dynamic=False) if recurrent else loss_on
    started = time.monotonic()
    for step in range(steps):
        # Every eighth step is long, so that all positions are known; after a change of length at
        # the end instead, the loss had to recover from 4.0.
        length = CONTEXT if step % 8 == 7 and not recurrent else spec["length"]
        batch = _crops(stream, length, spec["batch_tokens"] // length, generator)
        with torch.autocast("cpu", torch.bfloat16):
            loss = step_loss(config, tensors, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tensors.values(), 1.0)
        # A short warm-up, half of the steps at full rate, then down to a hundredth.
        scale = min(1, (step + 1) / 30, max(0.01, (steps - step) / (steps / 2)))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * scale
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if (step + 1) % 100 == 0 or step + 1 == steps or step == 9:
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                held_out = loss_on(config, tensors, valid)
            report(f"step {step + 1}/{steps}: training loss {loss.item():.3f}, held-out chapters "
                   f"{held_out.item():.3f}, {time.monotonic() - started:.0f} s")
    return {name: tensor.detach() for name, tensor in tensors.items()}
