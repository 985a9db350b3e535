"""``python -m servomex``: the command ``servomex`` of this Python's package."""

from servomex import cli

if __name__ == "__main__":
    cli.main("python -m servomex")
