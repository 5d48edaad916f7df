"""Random weights that show mistakes: norms away from one, biases, logits of std about one, sharp attention, one tiny embedding row."""

import zlib

import numpy as np


class Draw:
    """A stream of normal numbers that depends on the golden's name alone, so that no golden moves when another is added."""

    def __init__(self, name):
        self.random = np.random.Generator(np.random.Philox(zlib.crc32(name.encode())))

    def normal(self, *shape, scale=1.0):
        return (self.random.standard_normal(shape) * scale).astype(np.float32)

    def uniform(self, low, high, *shape):
        return self.random.uniform(low, high, shape).astype(np.float32)

    def matrix(self, rows, columns, gain=1.0):
        """[out, in]: keeps the size of its input when gain is 1."""
        return self.normal(rows, columns, scale=gain / np.sqrt(columns))

    def norm(self, size):
        return 1 + self.normal(size, scale=0.3)

    def embedding(self, vocab, size, scale=1.0, tiny=1e-3):
        """Row 0 is tiny, so that the norms' epsilon matters wherever token 0 stands."""
        table = self.normal(vocab, size, scale=scale)
        table[0] *= tiny
        return table

    def tokens(self, vocab, count):
        """Token 0 at t = 2, the last token of the vocabulary at t = 4 (the short end of an uneven vocabulary shard)."""
        ids = self.random.integers(1, vocab, count)
        ids[2], ids[4] = 0, vocab - 1
        return ids
