"""What is drawn in a terminal: tables, the line of succession, the history. The command line and the demonstration share it."""
