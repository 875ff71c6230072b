"""A command line that says what is wrong with it in one line. Light, since all begin with it."""

import argparse

from afsfuse.errors import UsageError

EXIT_USAGE = 1


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, with our exit status."""

    def error(self, message: str) -> None:  # type: ignore[override]  # it raises, as the other
        raise UsageError(f"{message}: see {self.prog} --help", exit_code=EXIT_USAGE)
