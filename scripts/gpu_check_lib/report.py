"""The report: stages and figures, written to report.json and report.md whenever something is added."""

import json
import os
import time

import tables


class Report:
    def __init__(self, folder):
        os.makedirs(folder, exist_ok=True)
        self.folder = folder
        self.data = {"began": time.strftime("%Y-%m-%d %H:%M:%S"), "environment": {}, "stages": [], "figures": []}

    def path(self, name):
        return os.path.join(self.folder, name)

    def begin(self, name):
        self.data["stages"].append({"name": name, "outcome": "running", "note": "", "seconds": 0.0})
        self._began = time.monotonic()
        print(f"gpu_check: {name} ...", flush=True)
        self.write()

    def end(self, outcome, note):
        stage = self.data["stages"][-1]
        stage.update(outcome=outcome, note=note, seconds=round(time.monotonic() - self._began, 1))
        print(f"gpu_check: {stage['name']}: {outcome}, {stage['seconds']:.1f} s{': ' if note else ''}{note}", flush=True)
        self.write()

    def stop(self, note):
        """The run ends before its time: the stage under way, if there is one, says so."""
        if self.data["stages"] and self.data["stages"][-1]["outcome"] == "running":
            self.end("stopped", note)

    def add(self, figure):
        """A figure of the stage that runs: a JSON object that says in "kind" what it is."""
        self.data["figures"].append(figure)
        self.write()

    def figures(self, kind):
        return [f for f in self.data["figures"] if f.get("kind") == kind]

    def write(self):
        # Beside first, then in place: a reader, and a run that is killed, never see half a file.
        for name, text in (("report.json", json.dumps(self.data, indent=1)), ("report.md", tables.page(self))):
            with open(self.path(name) + ".part", "w", encoding="utf-8") as file:
                file.write(text + "\n")
            os.replace(self.path(name) + ".part", self.path(name))
