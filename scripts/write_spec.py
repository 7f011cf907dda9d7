"""Write refmoe/SPEC.md from the docstrings; with --check only say whether it is what they say."""

import sys

from refmoe import spec

PATH = spec.PACKAGE / "SPEC.md"


def main() -> int:
    """1 if --check finds a difference."""
    text = spec.build()
    if "--check" in sys.argv[1:]:
        same = PATH.is_file() and PATH.read_text("utf-8") == text
        print("SPEC.md is what the sources say" if same else "SPEC.md differs: run python scripts/write_spec.py")
        return 0 if same else 1
    PATH.write_text(text, "utf-8")
    print(f"{PATH.name}: {len(text.splitlines())} lines")
    return 0


if __name__ == "__main__":
    sys.exit(main())
