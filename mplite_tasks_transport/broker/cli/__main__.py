"""``python -m mplite_tasks_transport.broker.cli`` is ``mplite-broker``."""

from __future__ import annotations

from . import main

if __name__ == "__main__":
    main()
