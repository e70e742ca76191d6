"""``python -m modellab``."""

from modellab.entry import main

if __name__ == "__main__":
    main()
