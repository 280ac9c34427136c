"""The command line. The core does not import it."""
