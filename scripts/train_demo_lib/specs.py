"""What the six demo models are. `config` becomes config.json (HF names) or, for the RWKV models,
which have none, only shapes the tensors."""

CONTEXT = 2048


def _llama(hidden, layers, heads, kv_heads, head_dim, intermediate, tied):
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
        "intermediate_size": intermediate, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": head_dim,
        "hidden_act": "silu", "vocab_size": 1024, "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": None,
        "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": tied,
        "bos_token_id": None, "eos_token_id": 0, "torch_dtype": "bfloat16"}


def _yoco(self_attention, bos, eos):
    rope = {"rope_theta": 10000.0, "rope_inv_freq": "yoco"}
    return {
        "architectures": ["YOCOForCausalLM"], "model_type": "yoco", "hidden_size": 128,
        "num_hidden_layers": 6, "num_self_decoder_layers": 3, "intermediate_size": 352,
        "hidden_act": "swish", "vocab_size": 1024, "norm_eps": 1e-5,
        "max_position_embeddings": CONTEXT, "tie_word_embeddings": False,
        "self_decoder_attn": {**self_attention, **rope},
        "cross_decoder_attn": {"num_heads": 4, "num_kv_heads": 2, "qkv_bias": False,
                               "qk_norm": False, **rope},
        "bos_token_id": bos, "eos_token_id": eos, "torch_dtype": "bfloat16"}


def _rwkv(model_type, layers):
    return {"model_type": model_type, "hidden_size": 128, "num_hidden_layers": layers,
            "vocab_size": 1024}


# steps: batches of `batch_tokens` tokens, cut in sequences of `length`; every eighth batch of the
# models that look positions up, in sequences of CONTEXT tokens.
SPECS = {
    "gqa": {
        "tokenizer": "llama3", "steps": 900, "batch_tokens": 4096, "length": 256, "rate": 3e-3,
        "config": _llama(hidden=192, layers=4, heads=8, kv_heads=4, head_dim=24, intermediate=320,
                         tied=False)},
    "gqa-draft": {
        "tokenizer": "llama3", "steps": 1200, "batch_tokens": 4096, "length": 256, "rate": 4e-3,
        "config": _llama(hidden=128, layers=2, heads=8, kv_heads=4, head_dim=16, intermediate=160,
                         tied=True)},
    "rwkv4": {
        "tokenizer": "world", "steps": 1400, "batch_tokens": 4096, "length": 512, "rate": 3e-3,
        "config": _rwkv("rwkv4", layers=6)},
    "rwkv7": {
        "tokenizer": "world", "steps": 1000, "batch_tokens": 4096, "length": 512, "rate": 3e-3,
        "config": _rwkv("rwkv7", layers=4)},
    "yoco-gret": {
        "tokenizer": "gpt2", "steps": 700, "batch_tokens": 4096, "length": 256, "rate": 3e-3,
        "config": _yoco({"type": "gated_retention", "num_heads": 4,
                         "gate_logit_normalizer": 16}, None, 0)},
    "yoco-swa": {
        "tokenizer": "spm", "steps": 700, "batch_tokens": 4096, "length": 256, "rate": 3e-3,
        "config": _yoco({"type": "swa", "num_heads": 4, "window_size": 64, "qkv_bias": False},
                        1, 2)},
}
