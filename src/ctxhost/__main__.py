"""`python -m ctxhost` is `ctxhost`."""

from ctxhost.cli import main

if __name__ == "__main__":
    main(prog_name="ctxhost")
