"""The work of each command, one file per command; stages meet in the files of the run folder."""
