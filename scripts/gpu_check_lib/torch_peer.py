"""The same shapes in PyTorch, in the same run: what Trireme is held against. JSON lines; scripts/gpu_check runs it.

  torch_peer.py [--seconds N]    on the GPU
  torch_peer.py --smoke          small shapes on the CPU: the program itself is tried

Two peers. "transformers": LlamaForCausalLM as it comes, bf16, SDPA attention, a plain decode loop. "torch graph": the
same matrices and F.scaled_dot_product_attention over a static cache, recorded in a CUDA graph by hand, without
anything that has to be compiled: what PyTorch gives somebody who takes trouble. Caches hold random numbers.
"""

import argparse
import gc
import json
import os
import statistics
import time

import torch
import torch.nn.functional as F

MODELS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/bench/models")


class Bench:
    def __init__(self, smoke, seconds):
        self.smoke = smoke
        self.device = "cpu" if smoke else "cuda"
        self.end = time.monotonic() + seconds
        self.context = 48 if smoke else 1024
        self.prompt = 64 if smoke else 8192
        self.batches = (1, 3) if smoke else (1, 64, 16)

    def wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds_of(self, work, times):
        """The median of single calls, each waited for, after two that warm up."""
        samples = []
        for i in range(times + 2):
            self.wait()
            began = time.perf_counter()
            work()
            self.wait()
            if i >= 2:
                samples.append(time.perf_counter() - began)
        return statistics.median(samples)

    def figure(self, peer, model, what, batch, seconds, tokens):
        print(json.dumps({"kind": "peer", "peer": peer, "model": model, "what": what, "batch": batch,
                          "context": self.context, "tokens": tokens, "seconds": seconds,
                          "tokens_per_second": tokens * batch / seconds}), flush=True)

    def skip(self, model, what, why):
        print(json.dumps({"kind": "skip", "model": model, "what": what, "why": why}), flush=True)

    def attempt(self, model, what, work, seconds_needed):
        """Runs `work`; what it cannot do is one line, and the next thing is tried."""
        if time.monotonic() + seconds_needed > self.end:
            return self.skip(model, what, "no time was left")
        try:
            work()
        except Exception as error:  # out of memory, or an interface that this version does not have
            self.skip(model, what, f"{type(error).__name__}: {str(error).splitlines()[0][:160]}")
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()


def config_of(name):
    with open(os.path.join(MODELS, name, "config.json"), encoding="utf-8") as file:
        return json.load(file)


def record(bench, step):
    """`step` as one launch: a CUDA graph of it."""
    if bench.device == "cpu":
        return step
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


# ---- transformers ----


def make_llama(bench, config):
    from transformers import LlamaConfig, LlamaForCausalLM
    fields = {k: v for k, v in config.items() if k not in ("architectures", "model_type", "torch_dtype")}
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(bench.device):
            model = LlamaForCausalLM._from_config(LlamaConfig(**fields), attn_implementation="sdpa")
    finally:
        torch.set_default_dtype(before)
    return model.to(bench.device, torch.bfloat16).eval()


def hub_prefill(bench, name, model):
    ids = torch.randint(0, model.config.vocab_size, (1, bench.prompt), device=bench.device)
    seconds = bench.seconds_of(lambda: model(input_ids=ids, use_cache=True, logits_to_keep=1), 3)
    bench.figure("transformers", name, "prefill", 1, seconds, bench.prompt)


def hub_decode(bench, name, model, batch):
    from transformers import DynamicCache
    c = model.config
    head_dim = c.hidden_size // c.num_attention_heads
    cache = DynamicCache()
    for layer in range(c.num_hidden_layers):
        shape = (batch, c.num_key_value_heads, bench.context, head_dim)
        cache.update(*(torch.randn(shape, device=bench.device, dtype=torch.bfloat16) for _ in range(2)), layer)
    ids = torch.randint(0, c.vocab_size, (batch, 1), device=bench.device)
    state = {"ids": ids}

    def step():
        out = model(input_ids=state["ids"], past_key_values=cache, use_cache=True)
        state["ids"] = out.logits[:, -1:].argmax(-1)

    bench.figure("transformers", name, "decode", batch, bench.seconds_of(step, 12), 1)


# ---- by hand ----


def turn(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


def graph_llama(bench, name, model, batch):
    """One token of each sequence through the weights of `model`, at a fixed position of a static cache."""
    c = model.config
    heads, kv, dim = c.num_attention_heads, c.num_key_value_heads, c.hidden_size // c.num_attention_heads
    length = bench.context + 1
    ids = torch.randint(0, c.vocab_size, (batch,), device=bench.device)
    angles = bench.context / c_theta(c) ** (torch.arange(0, dim, 2, device=bench.device) / dim)
    cos, sin = (f(torch.cat((angles, angles))).to(torch.bfloat16) for f in (torch.cos, torch.sin))
    layers = []
    for layer in model.model.layers:
        a, m = layer.self_attn, layer.mlp
        layers.append({
            "qkv": torch.cat((a.q_proj.weight, a.k_proj.weight, a.v_proj.weight)), "o": a.o_proj.weight,
            "gate_up": torch.cat((m.gate_proj.weight, m.up_proj.weight)), "down": m.down_proj.weight,
            "norm1": layer.input_layernorm.weight, "norm2": layer.post_attention_layernorm.weight,
            "cache": torch.randn((2, batch, kv, length, dim), device=bench.device, dtype=torch.bfloat16)})

    def step():
        x = F.embedding(ids, model.model.embed_tokens.weight)
        for w in layers:
            qkv = F.linear(F.rms_norm(x, (c.hidden_size,), w["norm1"], c.rms_norm_eps), w["qkv"])
            q, k, v = qkv.view(batch, heads + 2 * kv, dim).split((heads, kv, kv), 1)
            w["cache"][0, :, :, -1] = turn(k, cos, sin)
            w["cache"][1, :, :, -1] = v
            y = F.scaled_dot_product_attention(turn(q, cos, sin).unsqueeze(2), w["cache"][0], w["cache"][1],
                                               enable_gqa=True)
            x = x + F.linear(y.reshape(batch, heads * dim), w["o"])
            gate, up = F.linear(F.rms_norm(x, (c.hidden_size,), w["norm2"], c.rms_norm_eps), w["gate_up"]).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, w["down"])
        x = F.rms_norm(x, (c.hidden_size,), model.model.norm.weight, c.rms_norm_eps)
        return F.linear(x, model.lm_head.weight).argmax(-1)

    bench.figure("torch graph", name, "decode", batch, bench.seconds_of(record(bench, step), 20), 1)


def c_theta(config):
    """transformers 5 keeps theta among the rope's parameters."""
    return getattr(config, "rope_theta", None) or config.rope_parameters["rope_theta"]


def rwkv7_weights(bench, c):
    dim, ffn = c["hidden_size"], c["intermediate_size"]

    def matrix(outputs, inputs):
        return torch.randn((outputs, inputs), device=bench.device, dtype=torch.bfloat16) / inputs ** 0.5

    layers = []
    for _ in range(c["num_hidden_layers"]):
        w = {name: matrix(dim, dim) for name in ("r", "k", "v", "o")}
        for name in ("decay", "a", "v", "gate"):
            rank = c[f"{name}_low_rank_dim"]
            w[f"{name}_down"], w[f"{name}_up"] = matrix(rank, dim), matrix(dim, rank)
        w["key"], w["value"] = matrix(ffn, dim), matrix(dim, ffn)
        w["mix"] = torch.rand((7, 1, dim), device=bench.device, dtype=torch.bfloat16)
        layers.append(w)
    return layers, matrix(c["vocab_size"], dim), matrix(c["vocab_size"], dim)


def graph_rwkv7(bench, name, config, weights, batch):
    """One token of each sequence: arXiv 2503.14456, biases left out."""
    layers, embedding, head = weights
    dim, size = config["hidden_size"], config["head_dim"]
    heads = dim // size
    ids = torch.randint(0, config["vocab_size"], (batch,), device=bench.device)
    states = [torch.zeros((batch, heads, size, size), device=bench.device) for _ in layers]
    last = [torch.zeros((2, batch, dim), device=bench.device, dtype=torch.bfloat16) for _ in layers]

    def by_head(x):
        return x.view(batch, heads, size).float()

    def step():
        x = F.embedding(ids, embedding)
        for w, state, before in zip(layers, states, last):
            h = F.layer_norm(x, (dim,))
            r, d, k, v, a, g = (h + (before[0] - h) * w["mix"][:6]).unbind(0)
            before[0].copy_(h)
            r, k, v_rows = F.linear(r, w["r"]), F.linear(k, w["k"]), F.linear(v, w["v"])
            decay = torch.exp(-0.606531 * torch.sigmoid(F.linear(torch.tanh(F.linear(d, w["decay_down"])), w["decay_up"]).float()))
            rate = torch.sigmoid(F.linear(F.linear(a, w["a_down"]), w["a_up"]))
            v_rows = v_rows * torch.sigmoid(F.linear(F.linear(v, w["v_down"]), w["v_up"]))
            gate = F.linear(torch.sigmoid(F.linear(g, w["gate_down"])), w["gate_up"])
            kk = F.normalize(by_head(k), dim=-1)
            k = k * rate
            sa = torch.einsum("bhij,bhj->bhi", state, -kk)
            state.mul_(by_head(decay).unsqueeze(-2)).add_(sa.unsqueeze(-1) * (kk * by_head(rate)).unsqueeze(-2)
                                                         + by_head(v_rows).unsqueeze(-1) * by_head(k).unsqueeze(-2))
            y = torch.einsum("bhij,bhj->bhi", state, by_head(r)).reshape(batch, dim)
            y = F.group_norm(y, heads).to(torch.bfloat16)
            x = x + F.linear(y * gate, w["o"])
            h = F.layer_norm(x, (dim,))
            mixed = h + (before[1] - h) * w["mix"][6]
            before[1].copy_(h)
            x = x + F.linear(torch.relu(F.linear(mixed, w["key"])).square(), w["value"])
        return F.linear(F.layer_norm(x, (dim,)), head).argmax(-1)

    bench.figure("torch graph", name, "decode", batch, bench.seconds_of(record(bench, step), 20), 1)


# ---- the order ----


def llama(bench, name):
    held = {}

    def load():
        held["model"] = make_llama(bench, config_of(name))

    bench.attempt(name, "PyTorch", load, 15)
    model = held.pop("model", None)
    if model is None:
        return
    bench.attempt(name, "transformers, prefill", lambda: hub_prefill(bench, name, model), 6)
    for batch in bench.batches:
        bench.attempt(name, f"torch graph, decode of {batch}", lambda b=batch: graph_llama(bench, name, model, b), 4)
        bench.attempt(name, f"transformers, decode of {batch}", lambda b=batch: hub_decode(bench, name, model, b), 4)


def rwkv7(bench, name):
    config = config_of(name)
    held = {}

    def load():
        held["weights"] = rwkv7_weights(bench, config)

    bench.attempt(name, "PyTorch", load, 8)
    if "weights" not in held:
        return
    for batch in bench.batches:
        bench.attempt(name, f"torch graph, decode of {batch}",
                      lambda b=batch: graph_rwkv7(bench, name, config, held["weights"], b), 4)
    bench.skip(name, "PyTorch, prefill", "PyTorch has no kernel for the recurrence of many rows")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(20261127)
    bench = Bench(options.smoke, options.seconds)
    with torch.inference_mode():
        for name in ("smoke-gqa",) if options.smoke else ("llama-3-8b",):
            llama(bench, name)
        rwkv7(bench, "smoke-rwkv7" if options.smoke else "rwkv7-7.2b")
        for name in () if options.smoke else ("llama-2-7b", "llama-1.1b"):
            llama(bench, name)
    bench.skip("yoco-3b", "PyTorch", "there is no implementation of it to run beside ours")


if __name__ == "__main__":
    main()
