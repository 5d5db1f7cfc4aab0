"""`python -m attnrec`."""

from attnrec.cli.app import main

if __name__ == "__main__":
    main()
