"""The command `lmsi`, and `python -m lmsi_cli` for launchers that start a module in each process.

accelerate launch -m lmsi_cli train runs/first
"""

import signal
import sys


def main() -> None:
    """Entry point; Ctrl-C ends it silently even while its modules are still loading."""
    try:
        from lmsi_cli.cli.main import main as command
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    command()


if __name__ == "__main__":
    main()
