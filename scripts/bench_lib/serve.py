#!/usr/bin/env python3
"""Serving on this machine: throughput at 1, 4 and 16 streams, what scheduling and HTTP cost, and what
a cached prefix saves. Starts build/release/trireme serve, loads it with trireme bench serve, ends it.

  scripts/bench serve                     a 1.1B-shaped model of random weights (about 2.5 GB of memory)
  scripts/bench serve --config FILE.yaml  a deployment of your own
"""

import argparse
import json
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
TRIREME = ROOT / "build/release/trireme"
VOCAB = 32000


def write_model(folder):
    """config.json of a 1.1B model, and a tokenizer in which every id has a text."""
    config = json.loads((ROOT / "configs/models/gqa/config.json").read_text())
    config.update(hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32,
                  num_key_value_heads=4, head_dim=64, vocab_size=VOCAB, max_position_embeddings=4096)
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((ROOT / "configs/models/gqa/tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    taken = set(vocab.values()) | {token["id"] for token in tokenizer["added_tokens"]}
    for token in range(VOCAB):
        if token not in taken:
            vocab[f"w{token}"] = token
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    deployment = folder / "deployment.yaml"
    deployment.write_text(f"version: 1\nmodel:\n  path: {folder}\n  load_format: dummy\n"
                          "engine:\n  cpu_kv_cache_space: 1GiB\n")
    return deployment


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """trireme serve, from its start until the end of the `with`."""

    def __init__(self, deployment, log):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self.process = subprocess.Popen(
            [TRIREME, "serve", str(deployment), "--host", "127.0.0.1", "--port", str(self.port)],
            stdout=log, stderr=subprocess.STDOUT)

    def __enter__(self):
        deadline = time.monotonic() + 600
        while True:
            try:
                urllib.request.urlopen(self.url + "/health", timeout=5).close()
                return self
            except (urllib.error.URLError, OSError):
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.log.seek(0)
                self.__exit__()
                sys.exit("scripts/bench: the server did not start:\n" + self.log.read().decode())
            time.sleep(0.2)

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def metric(self, name):
        """The sum of a metric over its labels."""
        with urllib.request.urlopen(self.url + "/metrics", timeout=30) as page:
            text = page.read().decode()
        return sum(float(v) for v in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.M))

    def load(self, **flags):
        """One run of trireme bench serve: its JSON."""
        words = [TRIREME, "bench", "serve", "--base-url", self.url, "--json", "--ignore-eos"]
        for flag, value in flags.items():
            words += ["--" + flag.replace("_", "-"), str(value)]
        done = subprocess.run(words, capture_output=True, check=False)
        if done.returncode != 0:
            sys.exit("scripts/bench: " + done.stderr.decode())
        result = json.loads(done.stdout)
        if result["failed"]:
            sys.exit("scripts/bench: requests failed:\n" + done.stderr.decode())
        return result


def throughput(server, args):
    print(f"{'streams':>8} {'output tok/s':>13} {'TPOT ms':>9} {'not in a step':>14} {'client CPU':>11}")
    rates, decoding = {}, {}
    for streams in (1, 4, 16):
        runs = []
        for repetition in range(args.repetitions):
            before = server.metric("trireme_step_seconds_total")
            result = server.load(num_prompts=streams, max_concurrency=streams, random_input_len=args.input_len,
                                 random_output_len=args.output_len, seed=1000 * streams + repetition)
            stepping = server.metric("trireme_step_seconds_total") - before
            runs.append((result["output_throughput"], result["median_tpot_ms"],
                         max(0.0, 1 - stepping / result["duration"]), result["client_cpu_share"]))
        rate, tpot, outside, cpu = (statistics.median(column) for column in zip(*runs))
        rates[streams] = rate
        decoding[streams] = streams / tpot
        print(f"{streams:>8} {rate:>13.2f} {tpot:>9.1f} {outside:>13.1%} {cpu:>10.1%}", flush=True)
    print(f"16 streams give {rates[16] / rates[1]:.2f} times the output of one, prompts included; "
          f"{decoding[16] / decoding[1]:.2f} times while they decode")


def prefix(server, args):
    """The same long prompt twice: the second finds all but its end in the cache."""
    times = {"uncached": [], "cached": []}
    for repetition in range(args.repetitions):
        for kind in times:
            result = server.load(num_prompts=1, random_input_len=args.prefix_len, random_output_len=2,
                                 seed=77000 + repetition)
            times[kind].append(result["mean_ttft_ms"])
            cached = result["total_cached_tokens"]
        if cached == 0:
            print("note: the server found nothing of the second prompt in its cache")
    medians = {kind: statistics.median(values) for kind, values in times.items()}
    print(f"TTFT of {args.prefix_len} tokens: uncached {medians['uncached']:.1f} ms, cached "
          f"{medians['cached']:.1f} ms ({medians['uncached'] / max(medians['cached'], 1e-9):.1f} times as fast)")


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench serve", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=pathlib.Path, help="a deployment instead of the random model")
    parser.add_argument("--repetitions", type=int, default=3, help="medians are of so many [3]")
    parser.add_argument("--input-len", type=int, default=32, help="tokens of a prompt [32]")
    parser.add_argument("--output-len", type=int, default=64, help="tokens of an answer [64]")
    parser.add_argument("--prefix-len", type=int, default=2000, help="tokens of the cached prompt [2000]")
    args = parser.parse_args()
    if args.repetitions < 1:
        parser.error("--repetitions is at least 1")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        deployment = args.config or write_model(pathlib.Path(folder))
        with Server(deployment, log) as server:
            server.load(num_prompts=2, random_input_len=args.input_len, random_output_len=4, seed=1)
            throughput(server, args)
            prefix(server, args)


if __name__ == "__main__":
    main()
