"""`python -m worker` is `vodsync`; the roles that `up` and `demo` start run this way."""

from worker.cli import main

if __name__ == "__main__":
    main()
