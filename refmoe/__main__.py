"""python -m refmoe"""

from refmoe.cli import main

if __name__ == "__main__":
    main()
