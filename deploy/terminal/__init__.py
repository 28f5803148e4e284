"""What a terminal shows: tables, events as they come, the line of a run that goes on."""
