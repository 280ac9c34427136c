from ._command.cli import main

main()
