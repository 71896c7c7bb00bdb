"""One self-contained HTML page drawn from a ``StudyResult``: its figures, one file each, and the writer in ``page``."""
