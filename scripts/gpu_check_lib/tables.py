"""report.md from the stages and figures of a report, and the targets beside the figures."""

# (title, kind, what a figure must be, share of which ceiling, at least)
TARGETS = [
    ("decode, batch 1, 7-8B bf16", "decode", {"batch": 1, "context": 1024, "big": True}, "bandwidth", 0.85),
    ("decode, batch 64, 7-8B bf16", "decode", {"batch": 64, "context": 1024, "big": True}, "bandwidth", 0.75),
    ("prefill of 8K, GQA 8B", "prefill", {"tokens": 8192, "model": "llama-3-8b"}, "matrix", 0.65),
    ("prefill of 8K, RWKV-7 7.2B", "prefill", {"tokens": 8192, "model": "rwkv7-7.2b"}, "matrix", 0.50),
    ("attention, decode at 128K", "op", {"op": "attend", "context": 131072}, "bandwidth", 0.85),
]
OVERHEAD_MAX = 0.03
BIG = ("llama-3-8b", "llama-2-7b", "rwkv7-7.2b")


def page(report):
    data = report.data
    parts = [f"# GPU check, {data['began']}", _environment(data["environment"]), _stages(data["stages"])]
    for section in (_ceilings, _targets, _models, _served, _all_reduces, _memory, _kernels, _peers, _skips):
        text = section(report)
        if text:
            parts.append(text)
    return "\n\n".join(parts)


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell).replace("|", "/").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _environment(facts):
    rows = []
    for gpu in facts.get("gpus", []):
        rows.append(("GPU", f"{gpu['name']}, {gpu['memory']}, capability {gpu['capability']}, driver {gpu['driver']}"))
    if facts.get("no_gpu"):
        rows.append(("GPU", f"none: {facts['no_gpu']}"))
    rows += [(name, facts[name] or "not found") for name in ("cuda", "nvcc", "cublaslt", "nccl", "compute_sanitizer", "compiler",
                                                             "cmake", "ninja", "python", "torch", "transformers", "cores")
             if name in facts]
    return table(("", ""), rows)


def _stages(stages):
    rows = [(s["name"], s["outcome"], f"{s['seconds']:.1f} s", s["note"]) for s in stages]
    return "## Stages\n\n" + table(("stage", "outcome", "", ""), rows)


def ceiling(report, name):
    values = [c["value"] for c in report.figures("ceiling") if c["name"] == name]
    return values[-1] if values else None


def share(report, figure, of):
    """What part of a ceiling a figure reaches, or None where the ceiling was not measured."""
    top = ceiling(report, "copy" if of == "bandwidth" else "matrix_bf16")
    done = figure.get("bytes" if of == "bandwidth" else "flops")
    top = top and top * figure.get("gpus", 1)
    return done / figure["seconds"] / top if top and done and figure.get("seconds") else None


def percent(value):
    return "" if value is None else f"{100 * value:.0f} %"


def _ceilings(report):
    rows = [(c["name"], f"{c['value'] / c['scale']:.{c['digits']}f} {c['unit']}", c["how"]) for c in report.figures("ceiling")]
    return "## Ceilings\n\n" + table(("", "measured", "how"), rows) if rows else ""


def _fits(figure, wanted):
    for key, value in wanted.items():
        if key == "big":
            if figure.get("model") not in BIG:
                return False
        elif figure.get(key) != value:
            return False
    return True


def targets(report):
    """(title, target, measured, reached or None) of each target that has a figure."""
    rows = []
    for title, kind, wanted, of, least in TARGETS:
        for figure in report.figures(kind):
            if _fits(figure, wanted):
                value = share(report, figure, of)
                rows.append((f"{title}: {figure['model']}", f">= {percent(least)} of {of}", percent(value),
                             None if value is None else value >= least))
    for title, figures in (("step", [f for f in report.figures("decode") if f["context"] == 1024]),
                           ("served step", report.figures("served"))):
        for figure in figures:
            if figure.get("device_seconds"):
                overhead = 1 - figure["device_seconds"] / figure["seconds"]
                rows.append((f"{title} outside kernels: {figure['model']}, batch {figure['batch']}",
                             f"< {percent(OVERHEAD_MAX)}", f"{100 * overhead:.1f} %", overhead < OVERHEAD_MAX))
    for peer in report.figures("peer"):
        ours = _same(report, peer)
        if ours:
            ahead = ours["tokens_per_second"] / peer["tokens_per_second"]
            rows.append((f"against {peer['peer']}: {peer['what']}, {peer['model']}, batch {peer['batch']}",
                         "ahead", f"{ahead:.2f} x", ahead >= 1))
    return rows


def _same(report, peer):
    """Our figure for what a peer did."""
    for figure in report.figures(peer["what"]):
        if figure["model"] != peer["model"]:
            continue
        if peer["what"] == "prefill" and figure["tokens"] == peer["tokens"]:
            return figure
        if peer["what"] == "decode" and (figure["batch"], figure["context"]) == (peer["batch"], peer["context"]):
            return figure
    return None


def _targets(report):
    rows = [(title, target, value, {None: "no ceiling", True: "yes", False: "**no**"}[reached])
            for title, target, value, reached in targets(report)]
    return "## Targets\n\n" + table(("", "target", "measured", "reached"), rows) if rows else ""


def _models(report):
    rows = []
    for f in report.figures("decode"):
        rows.append((f["model"], f"decode, batch {f['batch']}", f["context"], f"{f['tokens_per_second']:.0f}",
                     f"{1e3 * f['seconds']:.2f} ms", percent(share(report, f, "bandwidth")), ""))
    for f in report.figures("prefill"):
        rows.append((f["model"], f"prefill of {f['tokens']}", 0, f"{f['tokens_per_second']:.0f}",
                     f"{1e3 * f['seconds']:.2f} ms", "", percent(share(report, f, "matrix"))))
    rows.sort(key=lambda row: row[0])
    head = ("model", "", "context", "tokens/s", "a step", "of bandwidth", "of matrix rate")
    return "## Models\n\n" + table(head, rows) if rows else ""


def _served(report):
    rows = [(f["model"], f["batch"], f"{f['tokens_per_second']:.0f}",
             *(f"{1e3 * f[key]:.2f} ms" if f.get(key) else "" for key in ("seconds", "bare_seconds", "device_seconds")))
            for f in report.figures("served")]
    head = ("model", "requests", "tokens/s", "a served step", "the same by hand", "on the device")
    return "## Serving\n\n" + table(head, rows) if rows else ""


def _all_reduces(report):
    rows = []
    for f in report.figures("all_reduce"):
        # What each link carries, as nccl-tests reckon it: a ring sends 2 (n - 1) / n of the bytes on each.
        carried = 2 * (f["gpus"] - 1) / f["gpus"] * f["bytes"] / f["recorded_seconds"]
        rows.append((f["gpus"], f"{f['bytes'] / 1024:.0f} KiB", *(f"{1e6 * f[key]:.1f} us" for key in (
            "alone_seconds", "seconds", "recorded_seconds")), f"{carried / 1e9:.1f} GB/s"))
    head = ("GPUs", "size", "alone", "of many", "of a recorded step", "on each link")
    return "## All-reduce\n\n" + table(head, rows) if rows else ""


def _memory(report):
    rows = [(f["model"], f["what"], f"{f['predicted'] / 2**30:.2f} GiB", f"{f['used'] / 2**30:.2f} GiB",
             f"{f['used'] / f['predicted'] - 1:+.1%}" if f["predicted"] else "") for f in report.figures("memory")]
    return "## Memory\n\n" + table(("model", "", "predicted", "used", ""), rows) if rows else ""


def _kernels(report):
    rows = [(f["model"], f["op"], f["shape"], f"{1e6 * f['seconds']:.1f} us", percent(share(report, f, "bandwidth")),
             percent(share(report, f, "matrix"))) for f in report.figures("op")]
    return "## Kernels\n\n" + table(("shapes of", "op", "", "time", "of bandwidth", "of matrix rate"), rows) if rows else ""


def _peers(report):
    rows = []
    for peer in report.figures("peer"):
        ours = _same(report, peer)
        rows.append((peer["peer"], peer["model"], peer["what"], peer["batch"], f"{peer['tokens_per_second']:.0f}",
                     f"{ours['tokens_per_second']:.0f}" if ours else "not measured"))
    return "## Beside PyTorch\n\n" + table(("peer", "model", "", "batch", "tokens/s", "Trireme"), rows) if rows else ""


def _skips(report):
    rows = [(f["model"], f["what"], f["why"]) for f in report.figures("skip")]
    return "## Left out\n\n" + table(("model", "", "why"), rows) if rows else ""
