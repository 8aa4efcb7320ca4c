"""Calls of an app: as people make them, in a process; and in this one, where the process tests nothing."""

import gc
import io
import logging
import os
import runpy
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*arguments, cwd=ROOT, env=None) -> subprocess.CompletedProcess:
    """`python -m ARGUMENTS`."""
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        capture_output=True,
        text=True,
    )


def run_here(module: str, *arguments) -> subprocess.CompletedProcess:
    """The same in this process: the start of a backend is most of what a call costs."""
    out, err = io.StringIO(), io.StringIO()
    warnings = logging.StreamHandler(err)
    code = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", [module, *map(str, arguments)])
        logging.getLogger().addHandler(warnings)
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        finally:
            logging.getLogger().removeHandler(warnings)
    gc.collect()  # a run's lock goes with the run
    return subprocess.CompletedProcess(sys.argv, code, out.getvalue(), err.getvalue())


def refused(done) -> str:
    """The one line on stderr of a refused call."""
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    return lines[0]
