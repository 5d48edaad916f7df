"""Runs programs for stages: inside the stage's time, their output in one log, their JSON lines handed on at once."""

import json
import os
import signal
import subprocess
import threading
import time
import traceback

LOG_BYTES_MAX = 12 << 20  # the report's files shall travel


class Stopped(Exception):
    """Somebody ended the whole run."""


class Ended:
    """How a program ended. `code` is None where its time was over."""

    def __init__(self, code, lines):
        self.code = code
        self.lines = lines

    @property
    def timed_out(self):
        return self.code is None

    def last(self, count=3):
        return " | ".join(line for line in self.lines[-40:] if line.strip())[-400:] if count else ""


class Runner:
    def __init__(self, log_path):
        self.log = open(log_path, "w", encoding="utf-8")
        self.logged = 0
        self.end = 0.0

    def box(self, seconds):
        """The stage that begins now has so many seconds."""
        self.end = time.monotonic() + seconds

    def left(self):
        return max(0.0, self.end - time.monotonic())

    def write(self, text):
        if self.logged < LOG_BYTES_MAX:
            self.log.write(text)
            self.log.flush()
        self.logged += len(text)

    def log_exception(self):
        self.write(traceback.format_exc())

    def run(self, command, seconds=None, env=None, on_json=None):
        """`command` for at most `seconds` of what the stage has left. Lines that are JSON objects go to on_json."""
        limit = min(self.left(), seconds or self.left())
        self.write(f"\n$ {' '.join(command)}    # at most {limit:.0f} s\n")
        began = time.monotonic()
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                       errors="replace", env={**os.environ, **(env or {})}, start_new_session=True)
        except OSError as error:
            self.write(f"{error}\n")
            return Ended(127, [str(error)])
        late = threading.Event()

        def kill():
            late.set()
            self._end_group(process)

        timer = threading.Timer(max(0.1, limit), kill)
        timer.start()
        lines = []
        try:
            for line in process.stdout:
                self.write(line)
                lines.append(line.rstrip("\n"))
                del lines[:-2000]
                if on_json and line.startswith("{"):
                    try:
                        on_json(json.loads(line))
                    except ValueError:
                        pass  # a line that only begins like one
            code = process.wait()
        except BaseException:  # stopped: nothing that we started stays behind
            self._end_group(process)
            raise
        finally:
            timer.cancel()
            process.stdout.close()
        self.write(f"# {time.monotonic() - began:.1f} s, {'its time was over' if late.is_set() else f'code {code}'}\n")
        return Ended(None if late.is_set() else code, lines)

    @staticmethod
    def _end_group(process):
        """First asked, so that ninja ends its compilers, which have groups of their own; then made to."""
        try:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                pass
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
