"""What a program in a Python of its own writes and loads."""

import subprocess
import sys


def run(code: str) -> str:
    """Run a program in a Python of its own and give what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def loaded_by(code: str) -> set[str]:
    """Give the modules, and the packages, that a program has loaded at its end."""
    names = run(f"import sys\n{code}\nprint(*sys.modules)").splitlines()[-1].split()
    return {*names, *(name.partition(".")[0] for name in names)}
