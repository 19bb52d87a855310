"""Workers are programs, and import what only their own environments have: pytest must not import them."""

collect_ignore_glob = ["*.py"]
