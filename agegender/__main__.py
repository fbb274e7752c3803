"""``python -m agegender``: the command ``agegender``, where the folder of scripts is not on the PATH."""

from agegender.cli import main

if __name__ == "__main__":
    main()
