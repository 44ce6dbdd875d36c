"""The command line, a module a subject; `main` has the names. A command calls the rooms and the graph, and prints."""
