"""The inner module of version 2, which programs import: the package's public names, and the command's ``main()``."""

from . import *  # noqa: F403  # what __all__ lists
from . import __version__ as __version__
from ._command.cli import main as main
