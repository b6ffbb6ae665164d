"""`python -m harness` is the console script `harness`, also where the package is not installed."""

from harness.cli import main

if __name__ == "__main__":
    main()
