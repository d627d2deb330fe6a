"""Run `vodsync` as `python -m worker`.

Python puts the working directory first on the import path of `python -m`. If that directory has its own `worker.py` or `worker/`,
Python runs that one and never reaches this file. `vodsync` and `python -P -m worker` do not search the working directory.
"""

from worker.cli import main

if __name__ == "__main__":
    main()
