"""``python -m ssn_edge`` is ``ssn-edge``."""

from ssn_edge.cli import main

if __name__ == "__main__":
    main()
