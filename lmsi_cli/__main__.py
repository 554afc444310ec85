"""`python -m lmsi_cli`: the command `lmsi` for launchers that start a module in each process.

accelerate launch -m lmsi_cli train runs/first
"""

from lmsi_cli.cli.main import main

if __name__ == "__main__":
    main()
