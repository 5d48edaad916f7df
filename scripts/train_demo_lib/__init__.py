"""The demo checkpoints of configs/models: text, tokenizers, models, training, evaluation."""
