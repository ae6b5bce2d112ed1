"""The command `rpp`: one module per subcommand."""
