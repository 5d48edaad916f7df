"""README.md's table of the last GPU check, between two comments; written here and by nobody else."""

import tables

BEGIN = "<!-- gpu_check begins: scripts/gpu_check writes what follows -->"
END = "<!-- gpu_check ends -->"


def rewrite(report, path="README.md"):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise RuntimeError(f"{path} has no place for the table: '{BEGIN}' and '{END}' stand there once each, in this order")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{before}{BEGIN}\n{section(report)}\n{END}{after}")


def section(report):
    facts = report.data["environment"]
    gpu = facts["gpus"][0]
    bandwidth, matrix = tables.ceiling(report, "copy"), tables.ceiling(report, "matrix_bf16")
    lines = [f"{report.data['began'][:10]}, {len(facts['gpus'])} x {gpu['name']}, driver {gpu['driver']}"
             + (f"; ceilings of the same run: {bandwidth / 1e12:.2f} TB/s copied" if bandwidth else "")
             + (f", {matrix / 1e12:.0f} TFLOP/s in bf16" if matrix else "") + ".", ""]
    rows = [(s["name"], s["outcome"], s["note"]) for s in report.data["stages"] if s["outcome"] != "running"]
    lines.append(tables.table(("stage", "outcome", ""), rows))
    aims = [(title, target, value, {None: "?", True: "yes", False: "no"}[reached])
            for title, target, value, reached in tables.targets(report)]
    if aims:
        lines += ["", tables.table(("", "target", "measured", "reached"), aims)]
    return "\n".join(lines)
