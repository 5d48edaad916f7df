"""The RWKV-4 and RWKV-7 forward passes in PyTorch, for training: the recurrences in chunks, so that
the sequential part is one small step per chunk. A model is a dictionary of tensors under BlinkDL's
checkpoint names. tokens [batch, length]; length is a multiple of the chunk."""

import math

import torch
import torch.nn.functional as F

HEAD = 64
RANKS = {"w": 32, "a": 32, "v": 16, "g": 32}


def layer_norm(p, name, x):
    return F.layer_norm(x.float(), x.shape[-1:], p[name + ".weight"], p[name + ".bias"], 1e-5)


def previous(x):
    return F.pad(x, (0, 0, 1, -1))


def decayed_sums(x, log_decay, chunk=64):
    """h_t = sum_{s<=t} exp(log_decay * (t - s)) x_s for x [batch, length, channels]: within a chunk
    one triangular matrix per channel, between chunks the recurrence."""
    batch, length, channels = x.shape
    chunk = min(chunk, length)
    steps = torch.arange(chunk)
    gap = steps[:, None] - steps[None, :]
    inside = (log_decay[:, None, None] * gap.clamp(min=0)).exp() * (gap >= 0)  # [channels, t, s]
    x = x.unflatten(1, (-1, chunk)).permute(3, 2, 0, 1).flatten(2)  # [channels, s, batch * chunks]
    h = (inside @ x).unflatten(2, (batch, -1))
    carry, carries = torch.zeros(channels, batch), []
    whole = (log_decay * chunk).exp()[:, None]
    for last in h[:, -1].unbind(-1):
        carries.append(carry)
        carry = whole * carry + last
    since = (log_decay[:, None] * (steps + 1)).exp()  # [channels, t]
    h = h + since[:, :, None, None] * torch.stack(carries, -1)[:, None]
    return h.permute(2, 3, 1, 0).flatten(1, 2)


def wkv4(time_decay, time_first, k, v):
    """(sum_{s<t} e^{w(t-1-s)+k_s} v_s + e^{u+k_t} v_t) / (the same with v = 1), w = -exp(decay)."""
    top = k.amax(1, keepdim=True).detach()
    e = (k - top).exp()
    sums = decayed_sums(torch.cat([e * v, e], -1), -time_decay.exp().repeat(2))
    numerator, denominator = previous(sums).chunk(2, -1)
    now = (time_first + k - top).exp()
    return (numerator + now * v) / (denominator + now + 1e-30)


def rwkv4_forward(c, p, tokens):
    x = layer_norm(p, "blocks.0.ln0", p["emb.weight"][tokens])
    for i in range(c["num_hidden_layers"]):
        at = f"blocks.{i}."
        project = lambda name, z: F.linear(z, p[at + name + ".weight"])
        a = layer_norm(p, at + "ln1", x)
        before = previous(a)
        mix = lambda n: torch.lerp(before, a, p[f"{at}att.time_mix_{n}"])
        r, k, v = (project("att.receptance", mix("r")), project("att.key", mix("k")),
                   project("att.value", mix("v")))
        y = wkv4(p[at + "att.time_decay"], p[at + "att.time_first"], k.float(), v.float())
        x = x + project("att.output", torch.sigmoid(r) * y)
        f = layer_norm(p, at + "ln2", x)
        before = previous(f)
        mix = lambda n: torch.lerp(before, f, p[f"{at}ffn.time_mix_{n}"])
        inner = F.relu(project("ffn.key", mix("k"))).square()
        x = x + torch.sigmoid(project("ffn.receptance", mix("r"))) * project("ffn.value", inner)
    return F.linear(layer_norm(p, "ln_out", x), p["head.weight"])


def wkv7(r, log_w, k, v, a, b, chunk=16):
    """y_t = S_t r_t with S_t = S_{t-1} diag(w_t) + (S_{t-1} a_t) b_tT + v_t k_tT, S_0 = 0, in
    chunks (the WY form of a product of diagonal plus rank one). All [batch, length, heads, 64] in fp32.
    Within a chunk exp(-sum log_w) <= exp(0.6065 * 16): no overflow. Z below is the transposed S."""
    batch, length, heads, _ = r.shape
    chunk = min(chunk, length)
    # [batch * heads, chunks, chunk, 64]
    cut = lambda x: x.transpose(1, 2).flatten(0, 1).unflatten(1, (-1, chunk))
    r, log_w, k, v, a, b = map(cut, (r, log_w, k, v, a, b))
    total = log_w.cumsum(2)
    grow = (-total).exp()
    a, r, k_in, b_in = a * (total - log_w).exp(), r * total.exp(), k * grow, b * grow
    rest = (total[:, :, -1:] - total).exp()
    k_end, b_end, whole = k * rest, b * rest, total[:, :, -1].exp()
    product = lambda x, y: x @ y.transpose(-1, -2)
    one = torch.eye(chunk)
    inverse = torch.linalg.solve_triangular(
        one - product(a, b_in).tril(-1), one, upper=False, unitriangular=True)
    # u_t = S_{t-1} a_t, stacked: u = from_state Z + from_values.
    from_state = inverse @ a
    from_values = inverse @ (product(a, k_in).tril(-1) @ v)
    rb = product(r, b_in).tril()
    y_state, y_values = r + rb @ from_state, product(r, k_in).tril() @ v + rb @ from_values
    keep = torch.diag_embed(whole) + b_end.transpose(-1, -2) @ from_state
    add = k_end.transpose(-1, -2) @ v + b_end.transpose(-1, -2) @ from_values
    z, states = torch.zeros_like(add[:, 0]), []
    for n in range(keep.shape[1]):
        states.append(z)
        z = torch.baddbmm(add[:, n], keep[:, n], z)
    y = y_state @ torch.stack(states, 1) + y_values
    return y.flatten(1, 2).unflatten(0, (batch, heads)).transpose(1, 2)


def rwkv7_forward(c, p, tokens):
    x = layer_norm(p, "blocks.0.ln0", p["emb.weight"][tokens])
    heads = c["hidden_size"] // HEAD
    first_v = None
    for i in range(c["num_hidden_layers"]):
        at = f"blocks.{i}.att."
        a = layer_norm(p, f"blocks.{i}.ln1", x)
        before = previous(a)
        mixed = {n: torch.lerp(a, before, p[f"{at}x_{n}"]) for n in "rwkvag"}
        low_rank = lambda n, act=lambda z: z: act(mixed[n] @ p[f"{at}{n}1"]) @ p[f"{at}{n}2"]
        r = F.linear(mixed["r"], p[at + "receptance.weight"]).float()
        k = F.linear(mixed["k"], p[at + "key.weight"]).float()
        v = F.linear(mixed["v"], p[at + "value.weight"]).float()
        log_w = -math.exp(-0.5) * torch.sigmoid(p[at + "w0"] + low_rank("w", torch.tanh).float())
        if first_v is None:
            first_v = v
        else:
            v = torch.lerp(v, first_v, torch.sigmoid(p[at + "v0"] + low_rank("v").float()))
        rate = torch.sigmoid(p[at + "a0"] + low_rank("a").float())
        gate = low_rank("g", torch.sigmoid)
        by_head = lambda z: z.unflatten(-1, (heads, HEAD))
        kk = F.normalize(by_head(k * p[at + "k_k"]), dim=-1, eps=1e-12)
        k = k * (1 + (rate - 1) * p[at + "k_a"])
        r, k, v4, log_w, rate = map(by_head, (r, k, v, log_w, rate))
        with torch.autocast("cpu", enabled=False):
            y = wkv7(r, log_w, k, v4, -kk, kk * rate)
        y = F.group_norm(y.flatten(2).flatten(0, 1), heads, p[at + "ln_x.weight"],
                         p[at + "ln_x.bias"], 64e-5).view_as(x)
        y = y + ((r * k * p[at + "r_k"]).sum(-1, keepdim=True) * v4).flatten(2)
        x = x + F.linear(y * gate, p[at + "output.weight"])
        f = layer_norm(p, f"blocks.{i}.ln2", x)
        at = f"blocks.{i}.ffn."
        inner = F.relu(F.linear(torch.lerp(f, previous(f), p[at + "x_k"]),
                                p[at + "key.weight"])).square()
        x = x + F.linear(inner, p[at + "value.weight"])
    return F.linear(layer_norm(p, "ln_out", x), p["head.weight"])


def _norm(name, d):
    return {name + ".weight": (d,), name + ".bias": (d,)}


def rwkv_shapes(c):
    d, v, seven = c["hidden_size"], c["vocab_size"], c["model_type"] == "rwkv7"
    square = {f"att.{n}.weight": (d, d) for n in ("receptance", "key", "value", "output")}
    ffn = {"ffn.key.weight": (4 * d, d), "ffn.value.weight": (d, 4 * d)}
    if seven:
        mix = {f"att.{n}": (1, 1, d) for n in
               ("x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "w0", "a0", "v0", "k_k", "k_a")}
        for n, rank in RANKS.items():
            mix |= {f"att.{n}1": (d, rank), f"att.{n}2": (rank, d)}
        mix |= {"att.r_k": (d // HEAD, HEAD), **_norm("att.ln_x", d), "ffn.x_k": (1, 1, d)}
    else:
        mix = {"att.time_decay": (d,), "att.time_first": (d,),
               **{f"{n}": (1, 1, d) for n in ("att.time_mix_k", "att.time_mix_v", "att.time_mix_r",
                                              "ffn.time_mix_k", "ffn.time_mix_r")}}
        ffn["ffn.receptance.weight"] = (d, d)
    block = {**_norm("ln1", d), **_norm("ln2", d), **square, **mix, **ffn}
    shapes = {"emb.weight": (v, d), **_norm("blocks.0.ln0", d)}
    for i in range(c["num_hidden_layers"]):
        shapes |= {f"blocks.{i}.{n}": s for n, s in block.items()}
    return {**shapes, **_norm("ln_out", d), "head.weight": (v, d)}


def initial_value(name, shape, c):
    """The initial values of BlinkDL's trainers for RWKV-4 and RWKV-7."""
    d, layers, seven = c["hidden_size"], c["num_hidden_layers"], c["model_type"] == "rwkv7"
    layer = int(name.split(".")[1]) if name.startswith("blocks") else 0
    last = name.split(".", 2)[-1]
    up, down = layer / max(layers - 1, 1), 1 - layer / layers
    n = torch.arange(d)
    ramp, linear = n / d, n / (d - 1) - 0.5
    zigzag = (n % HEAD - (HEAD - 1) / 2) / ((HEAD - 1) / 2)
    zigzag = zigzag * zigzag.abs()
    powers7 = {"att.x_r": 0.2, "att.x_w": 0.9, "att.x_k": 0.7, "att.x_v": 0.7, "att.x_a": 0.9,
               "att.x_g": 0.2}
    special = {
        "att.time_decay": lambda: -5 + 8 * (n / (d - 1)) ** (0.7 + 1.3 * up),
        "att.time_first": lambda: ((n + 1) % 3 - 1) * 0.5 + math.log(0.3),
        "att.time_mix_k": lambda: ramp**down, "att.time_mix_v": lambda: ramp**down + 0.3 * up,
        "att.time_mix_r": lambda: ramp ** (0.5 * down),
        "ffn.time_mix_k": lambda: ramp**down, "ffn.time_mix_r": lambda: ramp**down,
        "att.w0": lambda: -6 + 6 * (n / (d - 1)) ** (1 + up**0.3) + 0.5 + zigzag * 2.5,
        "att.a0": lambda: -0.19 + zigzag * 0.3 + linear * 0.4,
        "att.v0": lambda: 0.73 - linear * 0.4,
        "att.k_k": lambda: 0.71 - linear * 0.1, "att.k_a": lambda: torch.full((d,), 1.02),
        "att.r_k": lambda: torch.full((d,), -0.04), "ffn.x_k": lambda: 1 - ramp ** (down**4),
        "att.ln_x.weight": lambda: torch.full((d,), ((1 + layer) / layers) ** 0.7),
    }
    if last in powers7:
        return (1 - ramp ** (powers7[last] * down)).reshape(shape)
    if last in special:
        return special[last]().reshape(shape)
    if len(shape) == 1:
        return torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
    if last in ("att.output.weight", "ffn.value.weight", "ffn.receptance.weight") or (
            last.endswith("1") and seven):
        return torch.zeros(shape)
    if last.endswith("2") and seven:
        return torch.nn.init.orthogonal_(torch.empty(shape), 0.1)
    if name == "emb.weight":
        return torch.randn(shape) * 0.02
    scale = {"head.weight": 0.3, "att.key.weight": 0.05 if seven else 0.5}.get(
        name if name == "head.weight" else last, 0.5)
    return (torch.rand(shape) * 2 - 1) * scale / math.sqrt(d)
